"""What a search returns: the ranked gallery images of several queries."""

from __future__ import annotations

from typing import NamedTuple

from lineup.search.vectors import Positions, Vectors


class Hits(NamedTuple):
    """The ranked gallery images of Q queries.

    positions: int64 [Q, K], in the whole gallery; -1 behind a ranking's end.
    scores: float32 [Q, K], falling along a row; NaN behind a ranking's end.
    """

    positions: Positions
    scores: Vectors

    def of_queries(self, queries: Positions) -> Hits:
        """The rankings of some of the queries."""
        return Hits(self.positions[queries], self.scores[queries])
