"""Re-ranking with k-reciprocal encoding.

Each query is re-ranked alone: neighbours are looked for among the query and its first candidates, not in the
whole gallery and not among other queries. So memory and time follow from the number of candidates, and a
query's ranking does not depend on the other queries. Where the candidates are the whole gallery, this is the
paper's method with one query.

Source: Zhong, Zheng, Cao & Li, CVPR 2017.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import ordering
from lineup.refinements.ordering import Values
from lineup.refinements.refinement import Refinement, RefinementInput, VectorSpace, one_thread
from lineup.search import parted_index
from lineup.search.hits import Hits
from lineup.search.vectors import Positions, Vectors
from lineup.settings.refinement import KReciprocal


class Method(Refinement[KReciprocal]):
    """See `KReciprocal`."""

    SCORE_MEANING = "minus the k-reciprocal distance, 0 shares every neighbour"

    def rank(self, given: RefinementInput) -> Hits:
        """A score is minus the final distance, -1..0.

        Images behind the candidates keep their order, with scores from -1 to -2.
        """
        space = given.vector_space()
        positions = given.first.positions[:, : given.depth]
        scores = np.zeros(positions.shape)
        with one_thread():
            for q, ranked in enumerate(positions):
                count = int((ranked >= 0).sum())
                near = min(count, self.settings.candidates)
                squared = _squared_distances(space, space.queries[q], ranked[:near])
                scores[q, :near] = -final_distances(squared, self.settings)
                scores[q, near:count] = -1 - np.arange(1, count - near + 1) / max(count - near, 1)
        return ordering.best(positions, scores, given.depth)


def _squared_distances(space: VectorSpace, query: Vectors, candidates: Positions) -> Values:
    """Squared Euclidean distances among the query, which comes first, and its candidates: float64 [n, n]."""
    count = len(candidates)
    vectors = np.concatenate([query[None], parted_index.vectors_at(space.index, candidates)])
    scores = parted_index.pairwise(space.index, vectors, np.tile(candidates, (count + 1, 1))).astype(
        np.float64
    )
    distances = np.zeros((count + 1, count + 1))
    distances[:, 1:] = np.maximum(2 - 2 * scores, 0) if space.metric == "cosine" else -scores
    distances[1:, 0] = distances[0, 1:]
    np.fill_diagonal(distances, 0)
    return distances


def final_distances(squared: Values, settings: KReciprocal) -> Values:
    """(1 - lambda) * Jaccard distance + lambda * distance, of the query and each candidate: float64 [n - 1].

    squared: float64 [n, n], of the query, which comes first, and its candidates.
    """
    largest = squared.max(axis=1, keepdims=True)
    distances = squared / np.where(largest > 0, largest, 1)
    # An image is its own first neighbour, even where others show the same picture.
    itself_first = distances - 2 * np.eye(len(distances))
    neighbours = np.argsort(itself_first, axis=1, kind="stable")
    encoded = _encode(distances, neighbours, settings.k1)
    if settings.k2 > 1:
        nearest = neighbours[:, : settings.k2]
        encoded = sum((encoded[column] for column in nearest.T), np.zeros_like(encoded)) / nearest.shape[1]
    shared = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    return (1 - settings.lambda_) * (1 - shared / (2 - shared)) + settings.lambda_ * distances[0, 1:]


def _encode(distances: Values, neighbours: Positions, k1: int) -> Values:
    """Each image as a distribution over its expanded k1-reciprocal neighbours, float64 [n, n]."""
    wide, narrow = _reciprocal(neighbours, k1 + 1), _reciprocal(neighbours, int(np.around(k1 / 2)) + 1)
    # Counts of at most n are exact in float32, in whatever order a matrix product adds them.
    shared = wide.astype(np.float32) @ narrow.astype(np.float32).T
    joins = wide & (3 * shared > 2 * narrow.sum(axis=1))
    expanded = wide | (joins.astype(np.float32) @ narrow.astype(np.float32) > 0)
    weights = np.where(expanded, np.exp(-distances), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _reciprocal(neighbours: Positions, k: int) -> np.ndarray:
    """Whether i and j are among each other's first k, bool [n, n]."""
    forward = np.zeros(neighbours.shape, bool)
    np.put_along_axis(forward, neighbours[:, :k], True, axis=1)
    return forward & forward.T
