"""Retrieval metrics of each query, for binary relevance, in numpy.

A ranking has already lost what does not count: the query itself and images judged junk.
A ranking that ends before rank k counts as one in which nothing relevant follows.
Cut-offs divide by k or R as the definition says, never by the ranking's length.
A query with R = 0 has nothing to find, so its value is NaN.

Symbols: N queries; K ranks; R relevant gallery images of a query; h(i) = 1 if the image at rank i is
relevant, else 0; P(i) = (h(1) + ... + h(i)) / i, the precision at rank i.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def top_k_accuracy(relevant: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Whether any of the first k images is relevant: 1 or 0.

    Also called hit rate, success@k and CMC@k; the metric-learning literature calls it Recall@K.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        k: number of ranks to look at.
    Returns:
        float [N], 0 or 1, NaN where R is 0.
    Source: Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016, as
        Recall@K.
    """
    return _nan_without_relevant(np.any(relevant[:, :k], axis=1), num_relevant)


def recall_at_k(relevant: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Share of the R relevant images that are among the first k: sum of h(i) over i <= k, divided by R.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        k: number of ranks to look at.
    Returns:
        float [N] in 0..1, NaN where R is 0.
    Source: Manning et al., Introduction to Information Retrieval, 2008, ch. 8.
    """
    hits = relevant[:, :k].sum(axis=1)
    return _nan_without_relevant(hits / np.maximum(num_relevant, 1), num_relevant)


def precision_at_k(relevant: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Share of the first k images that are relevant: sum of h(i) over i <= k, divided by k.

    It divides by k even where R or the gallery is smaller.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        k: number of ranks to look at.
    Returns:
        float [N] in 0..1, NaN where R is 0.
    Source: Manning et al., Introduction to Information Retrieval, 2008, ch. 8.
    """
    return _nan_without_relevant(relevant[:, :k].sum(axis=1) / k, num_relevant)


def map_at_k(relevant: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Average precision at k: sum of P(i) h(i) over i <= k, divided by min(R, k).

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        k: number of ranks to look at.
    Returns:
        float [N] in 0..1, NaN where R is 0. Its mean over queries is MAP@k.
    Source: Manning et al., Introduction to Information Retrieval, 2008, ch. 8. Dividing by min(R, k), as
        competitions on Kaggle do, gives k relevant images in front a value of 1.
    """
    first_k = relevant[:, :k]
    summed = (_precisions(first_k) * first_k).sum(axis=1)
    return _nan_without_relevant(summed / np.clip(num_relevant, 1, k), num_relevant)


def map_at_r(relevant: BoolArray, num_relevant: IntArray) -> FloatArray:
    """Average precision at R: sum of P(i) h(i) over i <= R, divided by R.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant. Rankings must reach rank R: K is at
            least max(num_relevant), or they hold the whole gallery.
        num_relevant: int [N], R of each query.
    Returns:
        float [N] in 0..1, NaN where R is 0. Its mean over queries is MAP@R.
    Source: Musgrave et al., A Metric Learning Reality Check, ECCV 2020, section 2.
    """
    first_r = _within_first_r(relevant, num_relevant)
    summed = (_precisions(first_r) * first_r).sum(axis=1)
    return _nan_without_relevant(summed / np.maximum(num_relevant, 1), num_relevant)


def r_precision(relevant: BoolArray, num_relevant: IntArray) -> FloatArray:
    """Share of the first R images that are relevant: sum of h(i) over i <= R, divided by R.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant. Rankings must reach rank R, as for
            `map_at_r`.
        num_relevant: int [N], R of each query.
    Returns:
        float [N] in 0..1, NaN where R is 0.
    Source: Manning et al., Introduction to Information Retrieval, 2008, ch. 8.
    """
    hits = _within_first_r(relevant, num_relevant).sum(axis=1)
    return _nan_without_relevant(hits / np.maximum(num_relevant, 1), num_relevant)


def mrr(relevant: BoolArray, num_relevant: IntArray) -> FloatArray:
    """Reciprocal rank of the first relevant image: 1 / rank, 0 if the ranking holds none.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
    Returns:
        float [N] in 0..1, NaN where R is 0. Its mean over queries is MRR.
    Source: Voorhees, The TREC-8 Question Answering Track Report, 1999.
    """
    rank = first_hit(relevant)
    return _nan_without_relevant(np.where(rank > 0, 1 / np.maximum(rank, 1), 0.0), num_relevant)


def ndcg_at_k(relevant: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Normalised discounted cumulative gain at k: DCG of the ranking divided by that of a perfect one.

    DCG is the sum of h(i) / log2(1 + i) over i <= k. A perfect ranking has its R relevant images in front.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        k: number of ranks to look at.
    Returns:
        float [N] in 0..1, NaN where R is 0.
    Source: Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(num_relevant, k)]
    # Not a matrix product, whose last bits would depend on the number of threads.
    gained = (relevant[:, :k] * discounts[: relevant.shape[1]]).sum(axis=1)
    return _nan_without_relevant(gained / np.where(ideal > 0, ideal, 1), num_relevant)


def first_hit(relevant: BoolArray) -> IntArray:
    """Rank of the first relevant image.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
    Returns:
        int [N], counted from 1; 0 if the ranking holds no relevant image.
    """
    if relevant.shape[1] == 0:
        return np.zeros(len(relevant), np.int64)
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)


MAIN_METRIC = "map_at_r"  # decides the order of rows
_WITHOUT_CUTOFF = {MAIN_METRIC: map_at_r, "r_precision": r_precision, "mrr": mrr}
_WITH_CUTOFF = {
    "top": top_k_accuracy,
    "recall": recall_at_k,
    "precision": precision_at_k,
    "map": map_at_k,
    "ndcg": ndcg_at_k,
}


def top_k_name(k: int) -> str:
    """The name under which top-k accuracy is stored and shown."""
    return f"top_{k}"


def per_query(relevant: BoolArray, num_relevant: IntArray, cutoffs: Iterable[int]) -> dict[str, FloatArray]:
    """Every metric, at every cut-off, by the name under which it is stored.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant.
        num_relevant: int [N], R of each query.
        cutoffs: the k of metrics that have one; order and repetitions do not matter.
    Returns:
        {"map_at_r": float [N], "r_precision": ..., "mrr": ..., "top_1": ..., "recall_1": ..., ...}
    """
    ordered = sorted(set(cutoffs))
    values = {name: metric(relevant, num_relevant) for name, metric in _WITHOUT_CUTOFF.items()}
    for name, metric in _WITH_CUTOFF.items():
        values |= {f"{name}_{k}": metric(relevant, num_relevant, k) for k in ordered}
    return values


def _nan_without_relevant(values: npt.ArrayLike, num_relevant: IntArray) -> FloatArray:
    return np.where(num_relevant > 0, np.asarray(values, np.float64), np.nan)


def _precisions(relevant: BoolArray) -> FloatArray:
    """P(i) at each rank: float [N, K]."""
    return np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)


def _within_first_r(relevant: BoolArray, num_relevant: IntArray) -> BoolArray:
    """Relevance at the first R ranks of each query, False behind them: bool [N, max R]."""
    deepest = int(num_relevant.max(initial=0))
    ranks = np.arange(min(deepest, relevant.shape[1]))
    return relevant[:, :deepest] & (ranks < num_relevant[:, None])
