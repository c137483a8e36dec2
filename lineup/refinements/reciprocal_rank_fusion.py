"""Reciprocal rank fusion: score(image) = sum over both rankings of 1 / (k + rank), with ranks from 1.

A ranking that lacks the image adds 0. Three rows are fused by a chain of two refinements, in which the last
row weighs as much as the two before it together.

Source: Cormack, Clarke & Büttcher, SIGIR 2009.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import ordering
from lineup.refinements.ordering import Values
from lineup.refinements.refinement import Refinement, RefinementInput
from lineup.search.hits import Hits
from lineup.search.vectors import Positions
from lineup.settings.refinement import ReciprocalRankFusion


class Method(Refinement[ReciprocalRankFusion]):
    """See `ReciprocalRankFusion`."""

    SCORE_MEANING = "sum of the reciprocal ranks in both rankings"

    def rank(self, given: RefinementInput) -> Hits:
        """A score is the sum of 1 / (k + rank) in both rankings."""
        first, second = given.first.positions, given.second.positions
        return ordering.best(
            *ordering.summed(first, self._gains(first), second, self._gains(second)), given.depth
        )

    def _gains(self, positions: Positions) -> Values:
        return np.where(positions >= 0, 1 / (self.settings.k + np.arange(1, positions.shape[1] + 1)), 0.0)
