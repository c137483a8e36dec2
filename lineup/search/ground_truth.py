"""The exact neighbours of some queries, by which an approximate index is judged."""

from __future__ import annotations

from collections.abc import Iterable

import faiss
import numpy as np

from lineup.search import exact
from lineup.search.exact import Metric, Positions, Vectors


def neighbours(
    metric: Metric, queries: Vectors, excluded: Positions, batches: Iterable[Vectors], k: int
) -> Positions:
    """The k nearest gallery images of each query, as `exact.nearest` ranks them in one flat index.

    Holds one batch of the gallery at a time.

    Args:
        queries: float32 [Q, D], as `exact.prepare` returns them.
        excluded: int64 [E, 2] of (query, gallery position).
        batches: the gallery, float32 [n, D] each, as `exact.prepare` returns them.
    Returns:
        int64 [Q, k], positions in the gallery; -1 behind a ranking's end.
    """
    best = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    start = 0
    for vectors in batches:
        if len(vectors) == 0:
            continue
        index = faiss.IndexFlat(vectors.shape[1], exact.faiss_metric(metric))
        index.add(vectors)  # type: ignore[call-arg]
        in_batch = (excluded[:, 1] >= start) & (excluded[:, 1] < start + len(vectors))
        near, near_scores = exact.nearest(index, queries, k, excluded[in_batch] - [0, start])
        near_scores = np.where(near >= 0, near_scores, -np.inf)
        near = np.where(near >= 0, near + start, -1)
        best, scores = np.concatenate([best, near], axis=1), np.concatenate([scores, near_scores], axis=1)
        # A stable sort keeps equal scores in the order of their positions: earlier batches hold lower ones.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, scores = np.take_along_axis(best, order, axis=1), np.take_along_axis(scores, order, axis=1)
        start += len(vectors)
    return best


def recall(positions: Positions, truth: Positions, k: int) -> float:
    """recall@k: the share of the k exact neighbours that are among the first k ranked, mean over queries.

    As ann-benchmarks defines it, except that equal scores count in the order of the images' ids, by which
    both rankings are ordered.

    Args:
        positions: int64 [Q, K], what was ranked; -1 for none.
        truth: int64 [Q, K], the exact neighbours; -1 for none. Queries without any are left out of the mean.
    """
    positions, truth = positions[:, :k], truth[:, :k]
    rows = np.arange(len(truth))[:, None]
    width = int(max(positions.max(initial=0), truth.max(initial=0))) + 1
    hits = np.isin(rows * width + truth, (rows * width + positions)[positions >= 0]) & (truth >= 0)
    wanted = (truth >= 0).sum(axis=1)
    return float(np.mean(hits.sum(axis=1)[wanted > 0] / wanted[wanted > 0])) if (wanted > 0).any() else 1.0
