"""Which row is better, while queries are still being judged: intervals that hold however often one looks.

Queries are judged in a random order, so that those judged so far are a random sample without replacement of
all. A query's score under a row is between 0 and 1.

Symbols: N queries in the random order; n judged queries, the first n of them; k answers of each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.95


class RowEstimate(NamedTuple):
    """A row's mean score over the N queries, as far as it is known.

    Attributes:
        row: its name.
        mean: mean over the judged queries; the middle of the possible ones where answers are unjudged.
        low, high: its interval. It holds the mean over all N queries at every look with probability LEVEL.
    """

    row: str
    mean: float
    low: float
    high: float


class PairEstimate(NamedTuple):
    """The difference between two rows: the mean score of `better` minus that of `worse`.

    Attributes:
        better, worse: two rows; `better` has the higher mean so far, or comes first where they are equal.
        difference: over the judged queries; the middle of the possible ones where answers are unjudged.
        low, high: its interval. The intervals of all pairs hold the differences over all N queries at every
            look with probability LEVEL, all together.
        decided: whether the interval says that `better` is better: low is above 0.
        more_queries: about how many more queries it takes to decide, at the present rate; None where the pair
            is decided, or where even all N queries would not do.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    decided: bool
    more_queries: int | None


@dataclass(frozen=True)
class Verdict:
    """What the judged queries say so far.

    Attributes:
        judged: n.
        queries: N.
        rows: the best row first; rows with equal means by name.
        pairs: every two rows, in the order of `rows`.
        sentences: the verdict in words, with row names between backquotes.
    """

    judged: int
    queries: int
    rows: tuple[RowEstimate, ...]
    pairs: tuple[PairEstimate, ...]

    @property
    def sentences(self) -> list[str]:
        raise NotImplementedError


def from_answers(answers: Mapping[str, IntArray], relevance: Mapping[str, FloatArray]) -> Verdict:
    """The verdict on precision_k. It is the sharpest, since it sees which answers two rows share.

    Args:
        answers: of each row, int [N, k]: the gallery images of the first k ranks, by any code; -1 behind the
            end of a ranking. Queries in the random order, judged or not.
        relevance: of each row, float [n, k], of the first n queries: 1 right, 0 not right, NaN unjudged. The
            same image of a query has the same value under every row. Junk counts as 0, because the answer
            that would move up was never shown.
    Raises:
        ValueError: the arrays do not fit together.
    """
    raise NotImplementedError


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
    raise NotImplementedError
