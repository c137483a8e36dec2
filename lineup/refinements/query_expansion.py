"""alpha query expansion: q' = q + sum over the n first images x of max(0, cos(q, x))^alpha * x; the gallery
is searched with q'.

Source: Radenović, Tolias & Chum, TPAMI 2019, section 3.4; alpha = 0 is average query expansion (Chum et al.,
ICCV 2007). With the l2 metric the sum is divided by its weights, as vectors' lengths count there.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements.refinement import Task
from lineup.search import exact
from lineup.search.exact import Vectors
from lineup.settings.refinement import QueryExpansion


def queries(settings: QueryExpansion, task: Task) -> Vectors:
    """float32 [Q, D], as they're searched.

    The n first are those of `from`; all vectors are those of `with`.
    """
    space = task.space
    assert space is not None
    total = space.queries.astype(np.float64)
    weights = np.ones(len(total))
    # One rank after the other: memory doesn't grow with n, and the order of the sum is always the same.
    for positions in task.first.positions[:, : settings.n].T:
        neighbours = exact.vectors_at(space.index, positions)
        weight = np.where(
            positions >= 0, np.maximum(_cosines(space.queries, neighbours), 0) ** settings.alpha, 0.0
        )
        total += weight[:, None] * neighbours
        weights += weight
    return exact.prepare(
        space.metric, space.query_ids, (total / weights[:, None]).astype(np.float32), "the expanded queries"
    )


def _cosines(a: Vectors, b: Vectors) -> np.ndarray:
    """Row by row, float64 [Q]; 0 for a vector of length 0."""
    products = [np.einsum("qd,qd->q", x, y, dtype=np.float64) for x, y in ((a, b), (a, a), (b, b))]
    lengths = np.sqrt(products[1] * products[2])
    return np.where(lengths > 0, products[0] / np.where(lengths > 0, lengths, 1), 0.0)
