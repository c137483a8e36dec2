"""Which row is better, while queries are still being judged: intervals that hold however often one looks.

Queries are judged in a random order, so that those judged so far are a random sample of all, without
replacement. A mean's lower bound comes from the lowest scores that are possible, and its upper bound from the
highest, so that unjudged answers widen the interval and never make it wrong.
The differences of P pairs of rows have 2P bounds. Each of them is ever wrong with probability 0.05 / 2P at
most, so that any of them is with probability 0.05 at most, however the rows depend on each other
(Bonferroni). A row is called better where the lower bound of its lead is above 0. Rows that have the same
answers to every query are not counted among the pairs.

Symbols: R rows; P pairs; N queries on which not all rows have the same answers; n judged ones of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lineup.judging import confidence_sequence, leads, verdict_sentences
from lineup.judging import overlaps as answer_overlaps
from lineup.judging.confidence_sequence import Draws
from lineup.judging.estimates import PairEstimate, RowEstimate
from lineup.judging.leads import Leads
from lineup.judging.overlaps import Overlaps

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ERROR_RATE = 0.05
FEWEST_QUERIES_FOR_A_RATE = 10


@dataclass(frozen=True)
class Verdict:
    """What the judged queries say so far.

    Attributes:
        judged: n.
        queries: N.
        same: the number of other queries, on which all rows have the same answers in some order. Means and
            differences leave them out; over all queries, a difference is N / (N + same) times as large.
        rows: the best row first; rows with equal means by name.
        pairs: every two rows, in the order of `rows`.
    """

    judged: int
    queries: int
    same: int
    rows: tuple[RowEstimate, ...]
    pairs: tuple[PairEstimate, ...]

    @property
    def sentences(self) -> list[str]:
        """The verdict in words, with the names of rows between backquotes."""
        return verdict_sentences.sentences(self.rows, self.pairs, self.queries - self.judged, self.same)


class _Scores(NamedTuple):
    """The least and the greatest possible score of each row on the judged queries: float [R, n]."""

    least: FloatArray
    greatest: FloatArray


def from_answers(
    answers: Mapping[str, IntArray], relevance: Mapping[str, FloatArray], overlaps: Overlaps | None = None
) -> Verdict:
    """The verdict on precision_k. It is the sharpest, since it sees which answers two rows share.

    Queries on which all rows have the same answers, in any order, say nothing of a difference. They may come
    anywhere in the order, or be left out.

    Args:
        answers: of each row, int [Q, k]: the gallery images of the first k ranks, by any code; -1 behind the
            end of a ranking. Queries in the random order, judged or not. The ranks are those before anything
            was judged: if junk were removed and later answers moved up, the bounds could be wrong.
        relevance: of each row, float [q, k], of the first q queries: 1 right, 0 not right, NaN unjudged. An
            image has the same value under every row. Junk counts as 0.
        overlaps: `overlaps.between(answers)`, which saves time where there are several looks.
    Raises:
        ValueError: the arrays do not fit together.
    """
    rows = list(answers)
    ranked, values = np.stack(list(answers.values())), np.stack([relevance[row] for row in rows])
    if values.shape[1] > ranked.shape[1] or values.shape[2] != ranked.shape[2]:
        raise ValueError(f"relevance {values.shape} of answers {ranked.shape}")
    overlaps = overlaps or answer_overlaps.between(list(ranked))
    shown = np.flatnonzero(overlaps.tell_apart[: values.shape[1]])
    ranked, values = ranked[:, shown], values[:, shown]
    unjudged = np.isnan(values) & (ranked >= 0)
    right = np.where(ranked >= 0, np.nan_to_num(values), 0).sum(axis=2)
    least = leads.least_leads(ranked, right, unjudged)
    scores = _Scores(right / overlaps.depth, (right + unjudged.sum(axis=2)) / overlaps.depth)
    return _verdict(rows, scores, least, overlaps)


def from_scores(
    lowest: Mapping[str, FloatArray], highest: Mapping[str, FloatArray] | None, queries: int
) -> Verdict:
    """The verdict on any score between 0 and 1.

    Args:
        lowest: of each row, float [n] in 0..1: the judged queries' scores in the order of judging. Where
            answers are unjudged, the score if all of them are wrong.
        highest: likewise, if all of them are right; None where everything is judged.
        queries: N, of which the judged ones are a random sample.
    Raises:
        ValueError: scores are outside of 0..1, or there are more of them than queries.
    """
    rows = list(lowest)
    least = np.stack([lowest[row] for row in rows]).astype(np.float64)
    greatest = least if highest is None else np.stack([highest[row] for row in rows]).astype(np.float64)
    if not (least >= 0).all() or not (least <= greatest).all() or not (greatest <= 1).all():
        raise ValueError("a score is not between 0 and 1, or the lowest is above the highest")
    if least.shape[1] > queries:
        raise ValueError(f"{least.shape[1]} scores of {queries} queries")
    pairs = np.array(list(combinations(range(len(rows)), 2)), np.int64).reshape(-1, 2)
    ahead, behind = np.concatenate([pairs, pairs[:, ::-1]]).T
    overlaps = answer_overlaps.unknown(len(ahead), queries)
    return _verdict(rows, _Scores(least, greatest), least[ahead] - greatest[behind], overlaps)


def _verdict(rows: list[str], scores: _Scores, least: FloatArray, known: Overlaps) -> Verdict:
    """The verdict.

    Args:
        least: float [2P, n], the least possible leads in units of 1 / k.
        known: what was known before any query was judged.
    """
    queries, judged = known.limits.shape[1], least.shape[1]
    estimates = _row_estimates(rows, scores, queries)
    ranks = {estimate.row: rank for rank, estimate in enumerate(estimates)}
    pairs = _pair_estimates(rows, ranks, leads.estimate(least, known, ERROR_RATE), judged)
    return Verdict(judged, queries, len(known.tell_apart) - queries, tuple(estimates), tuple(pairs))


def _row_estimates(rows: list[str], scores: _Scores, queries: int) -> list[RowEstimate]:
    """The estimate of each row, the best first."""
    judged = scores.least.shape[1]
    values = np.concatenate([scores.least, 1 - scores.greatest])
    draws = Draws(values, np.ones(values.shape, bool), np.full(len(values), queries))
    bounds = confidence_sequence.lower_bounds(draws, np.full(len(values), ERROR_RATE / 2))
    low, high = bounds[: len(rows)], 1 - bounds[len(rows) :]
    means = (scores.least + scores.greatest).sum(axis=1) / (2 * judged) if judged else (low + high) / 2
    columns = (means.tolist(), low.tolist(), high.tolist())
    estimates = [RowEstimate(*estimate) for estimate in zip(rows, *columns, strict=True)]
    # Sums of equal scores in another order differ in their last digits.
    return sorted(estimates, key=lambda estimate: (-round(estimate.mean, 9), estimate.row))


def _pair_estimates(rows: list[str], ranks: dict[str, int], known: Leads, judged: int) -> list[PairEstimate]:
    """The estimate of each pair, in the order of its rows.

    Args:
        ranks: the place of each row.
    """
    estimates = []
    names = list(combinations(rows, 2))
    for number, pair in enumerate(names):
        lead, reverse = number, number + len(names)
        if ranks[pair[0]] > ranks[pair[1]]:
            pair, lead, reverse = (pair[1], pair[0]), reverse, lead
        low, wait = float(known.lows[lead]), known.waits[lead]
        more = (
            max(1, math.ceil(wait)) if judged >= FEWEST_QUERIES_FOR_A_RATE and math.isfinite(wait) else None
        )
        difference = float(known.means[lead] - known.means[reverse]) / 2
        estimates.append(PairEstimate(*pair, difference, low, -float(known.lows[reverse]), low > 0, more))
    return sorted(estimates, key=lambda pair: (ranks[pair.better], ranks[pair.worse]))
