"""How well a row tells that a query has no match: errors of an answer that is given above a threshold only.

A search is mated if the gallery holds an image that is relevant to its query, and non-mated if it holds none.
At a threshold, a non-mated search whose first answer reaches it is a false match. A mated search is missed
unless its first answer is relevant and reaches it. The shares of these are the false positive and the false
negative identification rate, FPIR and FNIR.

Source: Grother, Ngan & Hanaoka, Face Recognition Vendor Test part 2: Identification, NISTIR 8271, 2019, at
rank 1.

Symbols: N searches; C clusters, the labels of their queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# An FPIR f is promised where at least this many false matches per 1 / f searches could have been seen: with
# none in 3 / f searches, f is the upper end of its 95% interval (the rule of three).
FALSE_MATCHES_PER_PROMISE = 3
# With fewer non-mated searches, mated queries stand in: it is what an FPIR of 1% takes.
FEW_NON_MATED = 300
HISTOGRAM_BINS = 40
_CURVE_POINTS_PER_DECADE = 10
_SPLITS = 200
INTERVAL_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Searches:
    """The first answers of a row's searches.

    Attributes:
        score: float [N], of the first answer; minus infinity for a search without any answer.
        right: bool [N], whether it is relevant.
        mated: bool [N], whether any gallery image is relevant.
        cluster: int [N], codes 0..C-1; searches of one label are not independent.
        stand_ins: how many of the non-mated searches are mated queries whose relevant images are left out.
    """

    score: FloatArray
    right: BoolArray
    mated: BoolArray
    cluster: IntArray
    stand_ins: int


class Interval(NamedTuple):
    """A figure with its 95% interval; the ends are NaN where there is a single cluster."""

    value: float
    low: float
    high: float


class OperatingPoint(NamedTuple):
    """A threshold, and the errors that it leads to on labels that it was not chosen on.

    target: the FPIR that it is chosen for; threshold: the score from which on an answer is given.
    """

    target: float
    threshold: float
    fpir: Interval
    fnir: Interval


def searches(
    first_score: FloatArray,
    first_hit: IntArray,
    wrong_score: FloatArray,
    num_relevant: IntArray,
    known: BoolArray,
    cluster: IntArray,
) -> Searches:
    """The searches of Q queries, with stand-ins where few queries are non-mated.

    A stand-in is the search of a mated query in a gallery without its relevant images. The ranking of a
    refinement that uses the first answers, such as query expansion, is taken as it is, without these images.

    Args:
        first_score: float [Q], score of the first answer, NaN without any.
        first_hit: int [Q], rank of the first relevant image, 0 if the ranking holds none.
        wrong_score: float [Q], score of the first answer that is not relevant, NaN without any.
        num_relevant: int [Q], R of each query.
        known: bool [Q], whether anything is known of what is relevant to the query.
        cluster: int [Q], codes 0..C-1.
    """
    mated, non_mated = num_relevant > 0, known & (num_relevant == 0)
    stand_ins = mated if non_mated.sum() < FEW_NON_MATED else np.zeros_like(mated)
    parts = (
        (mated, first_score, first_hit == 1),
        (non_mated, first_score, np.zeros_like(mated)),
        (stand_ins, wrong_score, np.zeros_like(mated)),
    )
    score = np.concatenate([scores[chosen] for chosen, scores, _ in parts])
    return Searches(
        score=np.where(np.isnan(score), -np.inf, score),
        right=np.concatenate([right[chosen] for chosen, _, right in parts]),
        mated=np.arange(len(score)) < mated.sum(),
        cluster=np.concatenate([cluster[chosen] for chosen, _, _ in parts]),
        stand_ins=int(stand_ins.sum()),
    )


def threshold_at(scores: FloatArray, fpir: float) -> float:
    """The lowest of the scores that at most this share of them reaches; infinity if there is none.

    Args:
        scores: float [N], of non-mated searches.
        fpir: a share of 0..1.
    """
    falling = np.sort(scores)[::-1]
    reaching = np.searchsorted(-falling, -falling, side="right")  # how many reach each of them, ties included
    allowed = falling[(reaching <= fpir * len(falling)) & np.isfinite(falling)]
    return float(allowed[-1]) if len(allowed) else np.inf


def error_curve(given: Searches, fpir: Sequence[float] | FloatArray) -> FloatArray:
    """FNIR at the threshold of each FPIR, on the searches that the thresholds were chosen on: float [F]."""
    non_mated, right = given.score[~given.mated], given.score[given.right]
    thresholds = [threshold_at(non_mated, target) for target in fpir]
    return np.array([1 - np.sum(right >= threshold) / given.mated.sum() for threshold in thresholds])


def curve_targets(given: Searches) -> FloatArray:
    """FPIRs for a curve: from 1, ten to each power of ten, down to one false match among all searches."""
    decades = np.log10(max(int(np.sum(~given.mated)), 1))
    steps = np.arange(int(np.floor(decades * _CURVE_POINTS_PER_DECADE)) + 1)
    return 10.0 ** (-steps / _CURVE_POINTS_PER_DECADE)


def histograms(given: Searches) -> tuple[FloatArray, IntArray, IntArray]:
    """How scores are distributed: bounds of the bins, float [B + 1], and counts in each, int [B].

    The first counts are of right first answers, the second of the first answers of non-mated searches.
    """
    finite = given.score[np.isfinite(given.score)]
    bounds = np.histogram_bin_edges(finite, HISTOGRAM_BINS)
    right, non_mated = (
        np.histogram(given.score[chosen & np.isfinite(given.score)], bounds)[0]
        for chosen in (given.right, ~given.mated)
    )
    return bounds, right, non_mated


def is_supported(given: Searches, fpir: float) -> bool:
    """Whether there are enough non-mated searches to promise this FPIR."""
    return bool(np.sum(~given.mated) >= FALSE_MATCHES_PER_PROMISE / fpir)


def operating_points(given: Searches, targets: Sequence[float], seed: int) -> list[OperatingPoint]:
    """A threshold for each FPIR, chosen on all searches, and what to expect of it on other labels.

    The labels are split in halves, several times. A threshold is chosen on one half, and its errors are
    counted on labels drawn from the other with replacement, and the other way round. The figures are the
    means over these, the intervals their percentiles.

    Args:
        targets: those that are supported.
        seed: the same seed draws the same halves.
    """
    measured = _held_out_errors(given, targets, np.random.default_rng(seed))
    points = []
    for number, target in enumerate(targets):
        threshold = threshold_at(given.score[~given.mated], target)
        fpir, fnir = (_summary(values[np.isfinite(values)]) for values in measured[:, number].T)
        points.append(OperatingPoint(target, threshold, fpir, fnir))
    return points


def _summary(values: FloatArray) -> Interval:
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    return Interval(float(values.mean()), *map(float, np.quantile(values, INTERVAL_QUANTILES)))


def _held_out_errors(given: Searches, targets: Sequence[float], random: np.random.Generator) -> FloatArray:
    """(FPIR, FNIR) on a resample of one half, at the thresholds of the other: float [2 * splits, F, 2].

    They are NaN for a half without mated or non-mated searches, and where there is no second label.
    """
    count = int(given.cluster.max()) + 1
    errors = np.full((2 * _SPLITS, len(targets), 2), np.nan)
    for split in range(_SPLITS):
        first = random.permutation(count) < count // 2
        for side, chosen_on in enumerate((first, ~first)):
            others = np.flatnonzero(~chosen_on)
            if not first.any():
                continue
            draws = np.bincount(others[random.integers(len(others), size=len(others))], minlength=count)
            weight = draws[given.cluster].astype(np.float64)
            non_mated = given.score[chosen_on[given.cluster] & ~given.mated]
            for number, target in enumerate(targets):
                threshold = threshold_at(non_mated, target)
                errors[2 * split + side, number] = _errors(given, weight, threshold)
    return errors


def _errors(given: Searches, weight: FloatArray, threshold: float) -> tuple[float, float]:
    """FPIR and FNIR of weighted searches; NaN without any."""
    reaches = given.score >= threshold
    non_mated, mated = weight[~given.mated].sum(), weight[given.mated].sum()
    false_matches = weight[reaches & ~given.mated].sum()
    hits = weight[reaches & given.right].sum()
    return (
        false_matches / non_mated if non_mated else np.nan,
        1 - hits / mated if mated else np.nan,
    )
