"""The metrics of each query of a row's rankings, and what they can be where relevance is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lineup.evaluation import bounds, metrics
from lineup.evaluation.bounds import Bounds
from lineup.evaluation.rounding import DECIMALS
from lineup.relevance.judged_relevance import JudgedRelevance
from lineup.relevance.relevance import Relevance

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """The metrics of each query.

    Attributes:
        values: {metric: float [Q]}, rounded; NaN for queries that are not scored.
        scored: bool [Q], whether the query counts: a relevant image is known, or people judged answers to it
            and there may be one among the others.
        num_relevant: int [Q], R of each query, as far as known.
        first_hit: int [Q], rank of the first relevant image, 0 if the ranking holds none.
        first_wrong: int [Q], rank of the first image that is not relevant, 0 if the ranking holds none.
        unknown: what follows from unknown relevance; None where that of every pair is known.
    """

    values: Mapping[str, FloatArray]
    scored: BoolArray
    num_relevant: IntArray
    first_hit: IntArray
    first_wrong: IntArray
    unknown: UnknownAnswers | None = None

    def most(self) -> dict[str, FloatArray]:
        """The greatest values of the metrics whose `values` are the least: {metric: float [Q]}.

        `ndcg_k` is not among them: its values are those of unknown answers as wrong ones, and can be lower.
        """
        if self.unknown is None:
            return {}
        ranges = self.unknown.bounds.items()
        return {name: ends.most for name, ends in ranges if not name.startswith("ndcg")}

    def wrong_score(self, similarities: npt.NDArray[np.float32]) -> FloatArray:
        """The similarity of each query's first wrong answer, NaN where the ranking holds none: float64 [Q].

        Args:
            similarities: float32 [Q, K], the rankings' scores.
        """
        ranks = self.first_wrong
        scores = similarities[np.arange(len(ranks)), np.maximum(ranks - 1, 0)].astype(np.float64)
        return np.where(ranks > 0, scores, np.nan)


@dataclass(frozen=True)
class UnknownAnswers:
    """What follows where the relevance of some answers is unknown.

    Attributes:
        bounds: of each metric that is not exact: float [Q], rounded; NaN for queries that are not scored.
        judged_at: {k: float [Q]}, the share of the first k answers whose relevance is known; empty where that
            of every pair is.
        depth_needed: how deep rankings would have to be, as junk leaves too few of their images; None where
            it leaves enough.
    """

    bounds: Mapping[str, Bounds]
    judged_at: Mapping[int, FloatArray]
    depth_needed: int | None


def score(positions: IntArray, relevance: Relevance, cutoffs: Sequence[int]) -> Scores:
    """Scores rankings.

    Args:
        positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end; without the images that
            `relevance` excludes.
        relevance: of the same queries and gallery.
        cutoffs: the k of metrics that have one.
    """
    relevant, num_relevant = relevance.is_relevant(positions), relevance.num_relevant()
    values = metrics.per_query(relevant, num_relevant, cutoffs)
    wrong, scored, unknown = (positions >= 0) & ~relevant, num_relevant > 0, None
    if isinstance(relevance, JudgedRelevance):
        scored |= relevance.is_judged() & (relevance.num_unknown() > 0)
        wrong &= relevance.is_known_at(positions)
        cut = _cut_short(relevance, positions, scored, cutoffs)
        values = {
            name: _nan_unless(scored, _replaced(np.nan_to_num(value), cut.queries, cut.bounds[name].least))
            for name, value in values.items()
        }
        unknown = _unknown_answers(values, cut, relevance, positions, scored, cutoffs)
    return Scores(
        {name: np.round(value, DECIMALS) for name, value in values.items()},
        scored,
        num_relevant,
        metrics.first_hit(relevant),
        metrics.first_hit(wrong),
        unknown,
    )


class _CutShort(NamedTuple):
    """Scored queries of whose answers all is known but the order behind the ranking's end.

    Attributes:
        queries: int [C], their positions.
        bounds: {metric: float [C] each}, of every metric.
        depth_needed: as in `UnknownAnswers`, of all queries.
    """

    queries: IntArray
    bounds: Mapping[str, Bounds]
    depth_needed: int | None


def _cut_short(
    relevance: JudgedRelevance, positions: IntArray, scored: BoolArray, cutoffs: Sequence[int]
) -> _CutShort:
    """What follows where junk leaves less than the first k images, or less than R where R is known."""
    is_counted, lengths = relevance.num_unknown() == 0, (positions >= 0).sum(axis=1)
    num_relevant = relevance.num_relevant()
    needed = np.where(is_counted, np.maximum(num_relevant, max(cutoffs)), max(cutoffs))
    is_short = scored & relevance.is_cut_short(positions) & (lengths < needed)
    depths = (needed + relevance.num_junk())[is_short]
    queries = np.flatnonzero(is_short & is_counted)
    by_metric = bounds.per_query_cut_short(
        relevance.is_relevant(positions)[queries],
        lengths[queries],
        num_relevant[queries],
        relevance.num_behind(positions)[queries],
        cutoffs,
    )
    depth = min(int(depths.max()), len(relevance.gallery_ids)) if len(depths) else None
    return _CutShort(queries, by_metric, depth)


def _unknown_answers(
    values: Mapping[str, FloatArray],
    cut: _CutShort,
    relevance: JudgedRelevance,
    positions: IntArray,
    scored: BoolArray,
    cutoffs: Sequence[int],
) -> UnknownAnswers | None:
    """What follows where unknown answers of scored queries matter; None where none does.

    Args:
        values: {metric: float [Q]}, with unknown answers as wrong ones.
        positions, cutoffs: as `score` takes them.
        scored: bool [Q].
    """
    of_values = {name: Bounds(value, value) for name, value in values.items()}
    judged_at: dict[int, FloatArray] = {}
    if (scored & (relevance.num_unknown() > 0)).any():
        # Without the metrics that divide by R: nobody knows how many images are relevant.
        relevant, known = relevance.is_relevant(positions), relevance.is_known_at(positions)
        of_values = bounds.per_query(relevant, known, relevance.num_relevant(), cutoffs)
        has_image = (positions >= 0) | ~known
        judged_at = {k: bounds.judged_at_k(known, has_image, k) for k in sorted(set(cutoffs))}
    ranges = {}
    for name, ends in of_values.items():
        every = [_replaced(*pair) for pair in zip(ends, [cut.queries] * 2, cut.bounds[name], strict=True)]
        least, most = (_nan_unless(scored, np.round(end, DECIMALS)) for end in every)
        if not np.array_equal(least, most, equal_nan=True):
            ranges[name] = Bounds(least, most)
    if not ranges and not judged_at:
        return None
    return UnknownAnswers(ranges, judged_at, cut.depth_needed)


def _replaced(values: FloatArray, at: IntArray, by: FloatArray) -> FloatArray:
    """A copy of the values [Q], with `by` [C] at the positions `at` [C]."""
    copy = values.astype(np.float64)
    copy[at] = by
    return copy


def _nan_unless(scored: BoolArray, values: FloatArray) -> FloatArray:
    return np.where(scored, values, np.nan).astype(np.float64)
