"""Score fusion: weight * normalised score of `from` + (1 - weight) * that of `with`, normalised per query and
row.

min_max: a row's candidates span 0..1. z: they have mean 0 and standard deviation 1. Rankings are cut off, so
an image that only one row found has no score in the other: it counts there as that row's last candidate did,
the most it can have had (Fox & Shaw's CombSUM with the cut-off's score in place of 0). A row whose scores are
all equal adds nothing.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import Found, Task, Values
from lineup.settings.refinement import ScoreFusion


def refine(settings: ScoreFusion, task: Task) -> Found:
    """A score is the weighted sum of normalised ones: 0..1 with min_max."""
    gains, floors = [], np.zeros((len(task.first.positions), 1))
    for found, weight in ((task.first, settings.weight), (task.second, 1 - settings.weight)):
        above, lowest = _normalised(found, settings.normalisation)
        gains.append(weight * above)
        floors = floors + weight * lowest
    positions, values = refinements.added(task.first.positions, gains[0], task.second.positions, gains[1])
    return refinements.ordered(positions, values + floors, task.k)


def _normalised(found: Found, normalisation: str) -> tuple[Values, Values]:
    """How far each score lies above the row's last candidate, [Q, K], and that one's score, [Q, 1].

    Both normalised.
    """
    kept = found.positions >= 0
    scores, count = np.where(kept, found.scores, 0.0), np.maximum(kept.sum(axis=1, keepdims=True), 1)
    lowest = np.where(kept, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    highest = np.where(kept, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    lowest, highest = np.where(np.isfinite(lowest), lowest, 0.0), np.where(np.isfinite(highest), highest, 0.0)
    mean = scores.sum(axis=1, keepdims=True) / count
    deviation = np.sqrt((np.where(kept, scores - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
    flat = highest == lowest  # by comparison: the deviation of equal scores may be off from 0 by rounding
    unit = np.where(flat, 1.0, highest - lowest if normalisation == "min_max" else deviation)
    above = np.where(kept & ~flat, scores - lowest, 0.0) / unit
    return above, np.zeros_like(lowest) if normalisation == "min_max" else np.where(
        flat, 0.0, lowest - mean
    ) / unit
