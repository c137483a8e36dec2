"""What an approximate index should have found: exact neighbours of some queries, over a gallery that is read
as a stream.
"""

from __future__ import annotations

from collections.abc import Iterable

import faiss
import numpy as np

from lineup.search import exact
from lineup.search.exact import Metric, Positions, Vectors


def neighbours(
    metric: Metric, queries: Vectors, excluded: Positions, batches: Iterable[Vectors], k: int
) -> Positions:
    """As `search.nearest` finds them in a flat index of all batches; -1 behind a ranking's end. Holds one
    batch at a time.

    queries: float32 [Q, D], batches: float32 [n, D] each, both as `search.prepare` gave them -> int64 [Q, k].
    """
    places = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    start = 0
    for vectors in batches:
        if len(vectors) == 0:
            continue
        index = faiss.IndexFlat(vectors.shape[1], exact.faiss_metric(metric))
        index.add(vectors)  # type: ignore[call-arg]
        here = (excluded[:, 1] >= start) & (excluded[:, 1] < start + len(vectors))
        found, near = exact.nearest(index, queries, k, excluded[here] - [0, start])
        found, near = np.where(found >= 0, found + start, -1), np.where(found >= 0, near, -np.inf)
        places, scores = np.concatenate([places, found], axis=1), np.concatenate([scores, near], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # stable: earlier batches hold lower places
        places, scores = np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1)
        start += len(vectors)
    return places


def recall(found: Positions, truth: Positions, k: int) -> float:
    """recall@k: share of the first k of `truth` that is among the first k found, mean over queries; both
    int64 [Q, K], -1 for none.

    As in ann-benchmarks, but that equal scores count in the order of the images, as both were ranked in.
    """
    found, truth = found[:, :k], truth[:, :k]
    rows = np.arange(len(truth))[:, None]
    width = int(max(found.max(initial=0), truth.max(initial=0))) + 1
    hits = np.isin(rows * width + truth, (rows * width + found)[found >= 0]) & (truth >= 0)
    wanted = (truth >= 0).sum(axis=1)
    return float(np.mean(hits.sum(axis=1)[wanted > 0] / wanted[wanted > 0])) if (wanted > 0).any() else 1.0
