"""What metrics can be where the relevance of some answers is unknown: their least and their greatest value.

Either nobody judged whether an answer is relevant, or nobody knows which image comes next, since junk was
removed from a ranking. In the first case, the images that a ranking does not show among its first k count as
not relevant unless they are known to be relevant, as in TREC: R is the number of relevant images that are
known, plus those assumed among the first k.

Symbols: N queries; K ranks; R relevant gallery images of a query that are known; k a cut-off.
Source: Voorhees & Harman, TREC: Experiment and Evaluation in Information Retrieval, 2005, ch. 2 and 3, on
    pooling; Buckley & Voorhees, Retrieval Evaluation with Incomplete Information, SIGIR 2004, on what it does
    to metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lineup.evaluation import metrics
from lineup.evaluation.metrics import BoolArray, FloatArray, IntArray


class Bounds(NamedTuple):
    """The least and the greatest value of a metric: float [N] each, equal where it is exact."""

    least: FloatArray
    most: FloatArray


def judged_at_k(known: BoolArray, has_image: BoolArray, k: int) -> FloatArray:
    """Share of the first k answers whose relevance is known, of which a short ranking has fewer than k.

    Args:
        known: bool [N, K], whether it is known if the image at each rank is relevant.
        has_image: bool [N, K], False behind a ranking's end.
        k: number of ranks to look at.
    Returns:
        float [N] in 0..1; 1 where a ranking is empty.
    Source: Judged@k of ir_measures, which took it from OpenNIR: MacAvaney, OpenNIR: A Complete Neural Ad-Hoc
        Ranking Pipeline, WSDM 2020.
    """
    answers = has_image[:, :k].sum(axis=1)
    judged = (known & has_image)[:, :k].sum(axis=1)
    return np.where(answers > 0, judged / np.maximum(answers, 1), 1.0)


def per_query(
    relevant: BoolArray, known: BoolArray, num_relevant: IntArray, cutoffs: Iterable[int]
) -> dict[str, Bounds]:
    """The bounds of each metric that depends on a ranking's first answers, by its name.

    The least value of `mrr`, `top_k` and `precision_k` is that with all unknown answers wrong, and the
    greatest that with all of them right.

    Args:
        relevant: bool [N, K], whether the image at each rank is known to be relevant.
        known: bool [N, K], whether it is known if it is relevant; True behind a ranking's end.
        num_relevant: int [N], R of each query; a value is 0, not NaN, where it is 0.
        cutoffs: the k of metrics that have one.
    """
    possible, any_relevant = relevant | ~known, np.ones_like(num_relevant)
    bounds = {"mrr": Bounds(metrics.mrr(relevant, any_relevant), metrics.mrr(possible, any_relevant))}
    for k in sorted(set(cutoffs)):
        for name, metric in (("top", metrics.top_k_accuracy), ("precision", metrics.precision_at_k)):
            ends = (metric(each, any_relevant, k) for each in (relevant, possible))
            bounds[f"{name}_{k}"] = Bounds(*ends)
        bounds[f"ndcg_{k}"] = ndcg_bounds(relevant, known, num_relevant, k)
    return bounds


def ndcg_bounds(relevant: BoolArray, known: BoolArray, num_relevant: IntArray, k: int) -> Bounds:
    """The bounds of `metrics.ndcg_at_k`, whose ideal ranking grows with every image that is relevant.

    Of all ways in which s of a query's unknown answers are relevant, the best has them at the first unknown
    ranks, and the worst at the last ones.

    Args:
        relevant, known, num_relevant, k: as `per_query` takes them.
    """
    first, unknown = relevant[:, :k], ~known[:, :k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideals = np.concatenate([[0.0], np.cumsum(discounts)])
    gained = (first * discounts[: first.shape[1]]).sum(axis=1)
    count = unknown.sum(axis=1)
    least, most = np.full(len(first), np.inf), np.full(len(first), -np.inf)
    added = np.where(unknown, discounts[: first.shape[1]], 0.0)
    rising, falling = np.sort(np.where(unknown, added, np.inf), axis=1), -np.sort(-added, axis=1)
    lowest, highest = gained.copy(), gained.copy()
    for s in range(int(count.max(initial=0)) + 1):
        ideal = ideals[np.minimum(num_relevant + s, k)]
        ideal = np.where(ideal > 0, ideal, 1)
        possible = s <= count
        least = np.where(possible, np.minimum(least, lowest / ideal), least)
        most = np.where(possible, np.maximum(most, highest / ideal), most)
        if s < first.shape[1]:
            lowest, highest = lowest + rising[:, s], highest + falling[:, s]
    return Bounds(least, most)


def per_query_cut_short(
    relevant: BoolArray,
    lengths: IntArray,
    num_relevant: IntArray,
    num_others: IntArray,
    cutoffs: Iterable[int],
) -> dict[str, Bounds]:
    """The bounds of every metric where images follow behind a ranking's end in an order that is unknown.

    So it is where junk was removed from a ranking that had been searched with it. R is known, and so is how
    many relevant images follow: those that the ranking lacks. No metric rises if a relevant image comes
    later. So metrics are least if the relevant images come last of all that follow, and greatest if they come
    next.

    Args:
        relevant: bool [N, K], whether the image at each rank is relevant, False behind a ranking's end.
        lengths: int [N], the number of images in each ranking.
        num_relevant: int [N], R of each query, without junk.
        num_others: int [N], the number of gallery images that follow each ranking, without junk.
        cutoffs: the k of metrics that have one.
    Returns:
        {metric: Bounds}, of rankings that reach rank R and every cut-off. As in any ranking, what follows
        behind that does not count for `mrr`.
    Source: Radenović et al., Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking, CVPR
        2018, on junk: it is removed before ranks are counted, and is not part of R.
    """
    cutoffs = [*cutoffs]
    depths = np.maximum(np.maximum(lengths, num_relevant), max(cutoffs))
    ranks = np.arange(int(depths.max(initial=relevant.shape[1])))
    follow = num_relevant - relevant.sum(axis=1)
    ranking = np.zeros((len(relevant), len(ranks)), bool)
    ranking[:, : relevant.shape[1]] = relevant
    ends = []
    for first in (lengths + num_others - follow, lengths):
        added = (ranks >= first[:, None]) & (ranks < (first + follow)[:, None])
        ends.append((ranking | added) & (ranks < depths[:, None]))
    least, most = (metrics.per_query(end, num_relevant, cutoffs) for end in ends)
    return {name: Bounds(np.nan_to_num(least[name]), np.nan_to_num(most[name])) for name in least}
