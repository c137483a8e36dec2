"""The exact neighbours of some queries, by which an approximate index is judged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lineup.search import faiss_search, flat_index, merging
from lineup.search.gallery import Gallery
from lineup.search.vectors import Metric, Positions, Vectors

# Of the queries of a ranking, whose recall is measured.
RECALL_QUERIES = 1_000
_SEED = 0


def neighbours(
    metric: Metric, queries: Vectors, excluded: Positions, batches: Iterable[Vectors], k: int
) -> Positions:
    """The k nearest gallery images of each query, as `faiss_search.nearest` ranks them in one flat index.

    Holds one batch of the gallery at a time.

    Args:
        queries: float32 [Q, D], as `prepare_vectors` returns them.
        excluded: int64 [E, 2] of (query, gallery position).
        batches: the gallery, float32 [n, D] each, as `prepare_vectors` returns them.
    Returns:
        int64 [Q, k], positions in the gallery; -1 behind a ranking's end.
    """
    best, start = merging.empty_rankings(len(queries)), 0
    for vectors in batches:
        if len(vectors) == 0:
            continue
        index = flat_index.empty(metric, vectors.shape[1])
        index.add(vectors)  # type: ignore[call-arg]
        in_batch = merging.excluded_in_part(excluded, start, len(vectors))
        near = faiss_search.nearest(index, queries, k, in_batch)
        best = merging.merge(best, merging.in_gallery(near, start), k)
        start += len(vectors)
    missing = k - best.positions.shape[1]
    return np.pad(best.positions, ((0, 0), (0, missing)), constant_values=-1)


def recall(positions: Positions, truth: Positions, k: int) -> float:
    """recall@k: the share of the k exact neighbours that are among the first k ranked, mean over queries.

    This is the definition of ann-benchmarks, except for equal scores: both rankings order these by image_id,
    and the first k count.

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


def recalls(
    positions: Positions, queries: Vectors, excluded: Positions, gallery: Gallery, cutoffs: Iterable[int]
) -> dict[str, float]:
    """Recall of a ranking against exact search, over at most RECALL_QUERIES of the queries.

    Args:
        positions: int64 [Q, K], the ranked gallery images.
        queries: float32 [Q, D], as they were searched with.
        excluded: int64 [E, 2] of (query, gallery position).
    Returns:
        {"10": recall@10, ...}, one for each cutoff.
    """
    picked = np.sort(
        np.random.default_rng(_SEED).choice(len(queries), min(RECALL_QUERIES, len(queries)), replace=False)
    )
    picked_excluded = excluded[np.isin(excluded[:, 0], picked)]
    picked_excluded = np.column_stack([np.searchsorted(picked, picked_excluded[:, 0]), picked_excluded[:, 1]])
    cutoffs = sorted({min(k, gallery.size) for k in cutoffs})
    truth = neighbours(gallery.metric, queries[picked], picked_excluded, gallery.chunks(), cutoffs[-1])
    return {str(k): round(recall(positions[picked], truth, k), 4) for k in cutoffs}
