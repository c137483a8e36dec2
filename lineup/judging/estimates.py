"""What judged queries say of one row, and of the difference between two."""

from __future__ import annotations

from typing import NamedTuple


class RowEstimate(NamedTuple):
    """A row's mean score over all queries, as far as it is known.

    Attributes:
        row: its name.
        mean: over the judged queries; the middle of the possible means where answers are unjudged.
        low, high: its interval. It holds the mean over all queries at every look, with probability 0.95.
    """

    row: str
    mean: float
    low: float
    high: float


class PairEstimate(NamedTuple):
    """The difference between two rows: the mean score of `better` minus that of `worse`.

    Attributes:
        better, worse: two rows; `better` has the higher mean so far, or the first name where they are equal.
        difference: over the judged queries; the middle of the possible ones where answers are unjudged.
        low, high: its interval. With probability 0.95, the intervals of all pairs together hold the
            differences over all queries at every look.
        decided: whether `better` is better, which the interval says where low is above 0.
        more_queries: about how many more queries it takes to decide, at the present rate; None where the pair
            is decided, where fewer than 10 queries are judged, or where there is no difference so far that
            unjudged answers could not undo.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    decided: bool
    more_queries: int | None
