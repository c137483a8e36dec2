"""Reciprocal rank fusion: score(image) = sum over both rankings of 1 / (k + rank), rank from 1; 0 where a
ranking lacks it.

Source: Cormack, Clarke & Büttcher, SIGIR 2009. A third row is fused by a chain, which weighs the last row as
much as the two before it together.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import Found, Task, Values
from lineup.search.exact import Positions
from lineup.settings.refinement import ReciprocalRankFusion


def refine(settings: ReciprocalRankFusion, task: Task) -> Found:
    gains = [_gains(settings.k, found.positions) for found in (task.first, task.second)]
    return refinements.ordered(
        *refinements.added(task.first.positions, gains[0], task.second.positions, gains[1]), task.k
    )


def _gains(k: int, positions: Positions) -> Values:
    return np.where(positions >= 0, 1 / (k + np.arange(1, positions.shape[1] + 1)), 0.0)
