"""Metrics of rankings with binary relevance, per query.

Every function takes `relevant`, bool [N, K]: whether the image at rank 1..K answers the query, and where it
divides by it `total`, int [N]: R, the number of relevant images in the gallery. Both after exclusions (the
query itself, junk). Returned is float64 [N]; NaN where R is 0, for such a query has no right answer to find.
A ranking that ends before k is one in which nothing relevant follows. Cut-offs divide by k or R as defined,
never by the ranking's length.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Relevant = npt.NDArray[np.bool_]
Total = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def top_k(relevant: Relevant, total: Total, k: int) -> Values:
    """Top-k accuracy: 1 if any of the first k is relevant.

    Also called hit rate, CMC@k; Recall@K in metric learning.
    """
    return _defined(np.any(relevant[:, :k], axis=1), total)


def recall_k(relevant: Relevant, total: Total, k: int) -> Values:
    """Share of the R relevant images found among the first k. Source: Manning et al., IIR, ch. 8."""
    return _defined(relevant[:, :k].sum(axis=1) / np.maximum(total, 1), total)


def precision_k(relevant: Relevant, total: Total, k: int) -> Values:
    """Share of the first k that is relevant.

    Divides by k even where R or the gallery is smaller. Source: IIR, ch. 8.
    """
    return _defined(relevant[:, :k].sum(axis=1) / k, total)


def map_k(relevant: Relevant, total: Total, k: int) -> Values:
    """Average precision at k: sum over relevant ranks i <= k of precision at i, divided by min(R, k)."""
    return _defined(
        (_precisions(relevant[:, :k]) * relevant[:, :k]).sum(axis=1) / np.clip(total, 1, k), total
    )


def map_at_r(relevant: Relevant, total: Total) -> Values:
    """MAP@R: (1/R) * sum over relevant ranks i <= R of precision at i. Source: Musgrave et al., ECCV 2020,
    section 2.

    The ranking must reach rank R: K >= max(total), or hold the whole gallery.
    """
    within = _first_r(relevant, total)
    return _defined((_precisions(within) * within).sum(axis=1) / np.maximum(total, 1), total)


def r_precision(relevant: Relevant, total: Total) -> Values:
    """Share of the first R that is relevant.

    As for `map_at_r` the ranking must reach rank R. Source: IIR, ch. 8.
    """
    return _defined(_first_r(relevant, total).sum(axis=1) / np.maximum(total, 1), total)


def mrr(relevant: Relevant, total: Total) -> Values:
    """Reciprocal rank of the first relevant image; 0 if the ranking holds none."""
    first = first_hit(relevant)
    return _defined(np.where(first > 0, 1 / np.maximum(first, 1), 0.0), total)


def ndcg_k(relevant: Relevant, total: Total, k: int) -> Values:
    """Discounted cumulative gain at k, gain 1, discount log2(1 + rank), over the best possible one with R
    relevant images.

    Source: Järvelin & Kekäläinen, TOIS 2002.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(total, k)]
    # Not a matrix product: its last bits would depend on the number of threads.
    found = (relevant[:, :k] * gains[: relevant.shape[1]]).sum(axis=1)
    return _defined(found / np.where(ideal > 0, ideal, 1), total)


def first_hit(relevant: Relevant) -> Total:
    """Rank of the first relevant image, int64 [N]; 0 if the ranking holds none."""
    if relevant.shape[1] == 0:
        return np.zeros(len(relevant), np.int64)
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)


def per_query(relevant: Relevant, total: Total, cutoffs: Iterable[int]) -> dict[str, Values]:
    """Every metric at every cut-off by its name, `map_at_r` first: {"map_at_r": [N], ..., "top_1": [N], ...}."""
    cutoffs = sorted(set(cutoffs))
    values = {metric.__name__: metric(relevant, total) for metric in (map_at_r, r_precision, mrr)}
    for metric in (top_k, recall_k, precision_k, map_k, ndcg_k):
        values |= {f"{metric.__name__.removesuffix('_k')}_{k}": metric(relevant, total, k) for k in cutoffs}
    return values


def _defined(values: npt.ArrayLike, total: Total) -> Values:
    return np.where(total > 0, np.asarray(values, np.float64), np.nan)


def _precisions(relevant: Relevant) -> Values:
    """Precision at each rank, [N, K]."""
    return np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)


def _first_r(relevant: Relevant, total: Total) -> Relevant:
    """What is relevant within a query's first R ranks, bool [N, max R]."""
    deepest = int(total.max(initial=0))
    return relevant[:, :deepest] & (np.arange(min(deepest, relevant.shape[1])) < total[:, None])
