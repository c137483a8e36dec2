"""How far a row can be behind another on a query at most, which is known before the query is judged.

Answers that two rows share count alike for both. So a row can be behind by no more right answers than the
other has among its first k and the row itself has not.

Symbols: P pairs of rows; 2P leads, those of every pair's first row, then those of its second; Q queries, of
which N are those on which any two rows have different answers; k ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# A row that can be behind by less is bet on more boldly. But a limit that varies from query to query adds
# noise of its own, and so limits below this percentile are raised to it. Of the percentiles 50, 60, 70, 75,
# 80, 85 and 100, this one decided pairs of the demo's rows after the fewest queries.
_RAISED_PERCENTILE = 75


@dataclass(frozen=True)
class Overlaps:
    """The answers that only one row of a pair has.

    Attributes:
        depth: k.
        tell_apart: bool [Q], which of all queries are the N on which any two rows have different answers.
        limits: int16 [2P, N], how many answers the row that is behind lacks.
    """

    depth: int
    tell_apart: BoolArray
    limits: npt.NDArray[np.int16]

    @cached_property
    def differ(self) -> BoolArray:
        """Whether the two rows of a lead can differ on a query: bool [2P, N]."""
        first, second = np.split(self.limits, 2)
        differ = (first > 0) | (second > 0)
        return np.concatenate([differ, differ])

    @cached_property
    def differing(self) -> IntArray:
        """On how many of the N queries the two rows of a lead can differ: int [2P]."""
        return self.differ.sum(axis=1)

    @cached_property
    def _floors(self) -> npt.NDArray[np.int16]:
        """The percentile of each lead's limits, of the queries on which its rows differ: int16 [2P]."""
        largest = np.iinfo(np.int16).max
        ascending = np.sort(np.where(self.differ, self.limits, largest), axis=1)
        index = np.maximum(self.differing - 1, 0) * _RAISED_PERCENTILE // 100
        return np.take_along_axis(ascending, index[:, None], axis=1)[:, 0]

    def offsets(self, queries: int) -> IntArray:
        """What makes any lead positive: int [2P, n], the limits of the first n queries, raised.

        It is 0 where the two rows can't differ.
        """
        raised = np.maximum(self.limits[:, :queries], self._floors[:, None])
        return np.where(self.differ[:, :queries], raised, 0).astype(np.int64)

    @cached_property
    def total_offsets(self) -> IntArray:
        """The sum of the offsets of all N queries: int [2P]."""
        return self.offsets(self.limits.shape[1]).sum(axis=1)

    @cached_property
    def total_limits(self) -> IntArray:
        """The sum of the limits of all N queries: int [2P]."""
        return self.limits.sum(axis=1, dtype=np.int64)


def between(answers: Sequence[IntArray]) -> Overlaps:
    """Which answers every two rows share.

    Args:
        answers: of each row, int [Q, k]: the gallery images of the first k ranks, by any code; -1 behind the
            end of a ranking. No image occurs twice in a query's ranking.
    Raises:
        ValueError: rows have different numbers of queries or ranks, or an image occurs twice.
    """
    queries, depth = answers[0].shape
    lengths = [(ranked >= 0).sum(axis=1) for ranked in answers]
    by_rank = [np.ascontiguousarray(ranked.T) for ranked in answers]
    pairs = list(combinations(range(len(answers)), 2))
    limits = np.zeros((2, len(pairs), queries), np.int16)
    for number, (first, second) in enumerate(pairs):
        shared = _shared(by_rank[first], by_rank[second])
        limits[:, number] = lengths[second] - shared, lengths[first] - shared
    tell_apart = np.asarray(limits.any(axis=(0, 1)) if pairs else np.ones(queries), bool)
    return Overlaps(depth, tell_apart, limits.reshape(-1, queries)[:, tell_apart])


def unknown(leads: int, queries: int) -> Overlaps:
    """What is known of the leads where only scores between 0 and 1 are: that none is below -1.

    Args:
        leads: 2P.
        queries: N.
    """
    return Overlaps(1, np.ones(queries, bool), np.broadcast_to(np.int16(1), (leads, queries)))


def _shared(answers: IntArray, others: IntArray) -> IntArray:
    """The number of answers that two rows share: int [Q] of int [k, Q] and int [k, Q]."""
    also = np.zeros(answers.shape, bool)
    for image in others:
        also |= answers == image
    return (also & (answers >= 0)).sum(axis=0)
