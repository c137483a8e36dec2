"""Score fusion: weight * normalised score of `from` + (1 - weight) * normalised score of `with`.

Scores are normalised per query and row. min_max: a row's candidates span 0..1. z: they have mean 0 and
standard deviation 1. A row whose scores are all equal adds nothing.

Rankings are cut off, so an image that only one row ranked has no score in the other. It counts there as that
row's last candidate, the most that it can have had: Fox & Shaw's CombSUM, with the score at the cut-off in
place of 0.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import ordering
from lineup.refinements.ordering import Values
from lineup.refinements.refinement import Refinement, RefinementInput
from lineup.search.hits import Hits
from lineup.settings.refinement import ScoreFusion


class Method(Refinement[ScoreFusion]):
    """See `ScoreFusion`."""

    SCORE_MEANING = "weighted sum of both rankings' normalised scores"

    def rank(self, given: RefinementInput) -> Hits:
        """A score is the weighted sum of normalised ones: 0..1 with min_max."""
        gains, floors = [], np.zeros((len(given.first.positions), 1))
        for ranking, weight in (
            (given.first, self.settings.weight),
            (given.second, 1 - self.settings.weight),
        ):
            above, lowest = _normalised(ranking, self.settings.normalisation)
            gains.append(weight * above)
            floors = floors + weight * lowest
        positions, values = ordering.summed(given.first.positions, gains[0], given.second.positions, gains[1])
        return ordering.best(positions, values + floors, given.depth)


def _normalised(ranking: Hits, normalisation: str) -> tuple[Values, Values]:
    """Each normalised score minus that of the row's last candidate, [Q, K], and the latter, [Q, 1]."""
    ranked = ranking.positions >= 0
    scores, count = np.where(ranked, ranking.scores, 0.0), np.maximum(ranked.sum(axis=1, keepdims=True), 1)
    lowest = np.where(ranked, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    highest = np.where(ranked, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    lowest, highest = np.where(np.isfinite(lowest), lowest, 0.0), np.where(np.isfinite(highest), highest, 0.0)
    mean = scores.sum(axis=1, keepdims=True) / count
    deviation = np.sqrt((np.where(ranked, scores - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
    # By comparison: the deviation of equal scores may differ from 0 by rounding.
    flat = highest == lowest
    unit = np.where(flat, 1.0, highest - lowest if normalisation == "min_max" else deviation)
    above = np.where(ranked & ~flat, scores - lowest, 0.0) / unit
    if normalisation == "min_max":
        return above, np.zeros_like(lowest)
    return above, np.where(flat, 0.0, lowest - mean) / unit
