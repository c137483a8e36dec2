"""How far one row is ahead of another, by the queries judged so far: bounds that hold at every look.

Symbols: P pairs of rows; 2P leads, those of every pair's first row, then those of its second; N queries, of
which n are judged; k ranks; J shares of a capital.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lineup.judging import confidence_sequence
from lineup.judging.confidence_sequence import Draws
from lineup.judging.overlaps import Overlaps

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_LONGEST_WAIT = 1e6  # in units of what was judged
_ROUNDING_ERROR = 1e-9


class Leads(NamedTuple):
    """What is known of the leads.

    Attributes:
        means: float [2P], the mean over the judged queries of the least possible lead.
        lows: float [2P], the lower bound of the mean over all N queries.
        waits: float [2P], how many more queries it takes until the bound is above 0, at the present rate;
            infinite where it is above 0, or would never be.
    """

    means: FloatArray
    lows: FloatArray
    waits: FloatArray


def estimate(least: FloatArray, known: Overlaps, error_rate: float) -> Leads:
    """What the judged queries say of the leads.

    Args:
        least: float [2P, n], the least possible lead on each judged query, in units of 1 / k.
        known: what was known before any query was judged.
        error_rate: the probability that any of the 2P bounds is ever too high.
    """
    (count, judged), queries = least.shape, known.limits.shape[1]
    # Rows that have the same answers on every query can't be told apart wrongly.
    errors = np.full(count, error_rate / max((known.differing > 0).sum(), 1))
    draws = Draws(least + known.offsets(judged), known.differ[:, :judged], known.differing)
    by_bets = confidence_sequence.lower_bounds(draws, errors) * known.differing - known.total_offsets
    # Where few queries are left, it says more that none of them can change a lead by more than its limit.
    left = known.total_limits - known.limits[:, :judged].sum(axis=1, dtype=np.int64)
    sums = least.sum(axis=1)
    lows = np.maximum(by_bets, sums - left) / (known.depth * max(queries, 1))
    lows[np.abs(lows) < _ROUNDING_ERROR] = 0
    waits = np.full(count, np.inf)
    open_leads = np.flatnonzero((lows <= 0) & (sums > 0))
    if len(open_leads) and judged < queries:
        waits[open_leads] = _waits(draws, open_leads, known, -np.log(errors[open_leads]))
    return Leads(sums / (known.depth * max(judged, 1)), lows, waits)


def _waits(draws: Draws, leads: IntArray, known: Overlaps, thresholds: FloatArray) -> FloatArray:
    """The waits of the leads [A] whose log capital has to reach thresholds [A]: float [A].

    At a steady rate, what each share has made of its capital grows with n / (1 - n / N): as the square of a
    mean's z value does, whose variance is that of n draws without replacement of N.
    """
    chosen = Draws(draws.values[leads], draws.in_set[leads], draws.sizes[leads])
    claims = known.total_offsets[leads] / chosen.sizes
    impossible = np.where(chosen.in_set, chosen.values, 0).sum(axis=1) / chosen.sizes
    logs = confidence_sequence.log_capitals(chosen, np.maximum(claims, impossible + _ROUNDING_ERROR))
    shortest, longest = np.ones(len(leads)), np.full(len(leads), _LONGEST_WAIT)
    endless = confidence_sequence.merged(logs * _LONGEST_WAIT) < thresholds
    for _ in range(30):
        middle = np.sqrt(shortest * longest)
        reached = confidence_sequence.merged(logs * middle[:, None]) >= thresholds
        shortest, longest = np.where(reached, shortest, middle), np.where(reached, middle, longest)
    judged, queries = draws.values.shape[1], known.limits.shape[1]
    grown = longest * judged / (1 - judged / queries)
    return np.where(endless, np.inf, grown / (1 + grown / queries) - judged)


def least_leads(ranked: IntArray, right: FloatArray, unjudged: BoolArray) -> FloatArray:
    """The least possible leads, in answers: float [2P, n].

    The unjudged answers of the row that is behind count as right, and those of the row ahead as wrong, but
    those that both have count alike.

    Args:
        ranked, unjudged: the images at the first k ranks, and which of them are unjudged: [R, n, k] each.
        right: float [R, n], the number of answers judged right.
    """
    unknown, queries = unjudged.sum(axis=2), right.shape[1]
    row_of, query_of, _ = np.nonzero(unjudged)
    _, pair_of = np.unique(np.stack([query_of, ranked[unjudged]]), axis=1, return_inverse=True)
    pairs = int(pair_of.max(initial=-1)) + 1
    query_of_pair = np.zeros(pairs, np.int64)
    query_of_pair[pair_of] = query_of
    has = np.zeros((len(ranked), pairs), bool)  # whether a row has an unjudged (query, image)
    has[row_of, pair_of] = True
    leads: tuple[list[FloatArray], list[FloatArray]] = [], []
    for first, second in combinations(range(len(ranked)), 2):
        both = np.bincount(query_of_pair[has[first] & has[second]], minlength=queries)
        ahead = right[first] - right[second]
        leads[0].append(ahead + both - unknown[second])
        leads[1].append(both - ahead - unknown[first])
    return np.array(leads, np.float64).reshape(2 * len(leads[0]), queries)
