"""alpha query expansion: the gallery is searched with the query and its first images, added up.

q' = q + sum over the n first images x of max(0, cos(q, x))^alpha * x. With the l2 metric the sum is divided
by its weights, as lengths count there.

Source: Radenović, Tolias & Chum, TPAMI 2019, section 3.4; alpha = 0 is average query expansion (Chum et al.,
ICCV 2007).
"""

from __future__ import annotations

import numpy as np

from lineup.refinements.refinement import RefinementInput, SearchRefinement
from lineup.search import parted_index
from lineup.search.vectors import Vectors, prepare_vectors
from lineup.settings.refinement import QueryExpansion


class Method(SearchRefinement[QueryExpansion]):
    """See `QueryExpansion`."""

    def queries(self, given: RefinementInput) -> Vectors:
        """The n first images are those of the ranking of `from`; all vectors are those of `with`."""
        space = given.vector_space()
        total = space.queries.astype(np.float64)
        weights = np.ones(len(total))
        # Rank by rank: memory does not grow with n, and the order of the sum is always the same.
        for positions in given.first.positions[:, : self.settings.n].T:
            neighbours = parted_index.vectors_at(space.index, positions)
            similarities = np.maximum(_cosines(space.queries, neighbours), 0)
            weight = np.where(positions >= 0, similarities**self.settings.alpha, 0.0)
            total += weight[:, None] * neighbours
            weights += weight
        expanded = (total / weights[:, None]).astype(np.float32)
        return prepare_vectors(space.metric, space.query_ids, expanded, "the expanded queries")


def _cosines(a: Vectors, b: Vectors) -> np.ndarray:
    """The cosine of each pair of rows, float64 [Q]; 0 for a vector of length 0."""
    products = [np.einsum("qd,qd->q", x, y, dtype=np.float64) for x, y in ((a, b), (a, a), (b, b))]
    lengths = np.sqrt(products[1] * products[2])
    return np.where(lengths > 0, products[0] / np.where(lengths > 0, lengths, 1), 0.0)
