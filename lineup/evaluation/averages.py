"""What a row's metrics are on average over the scored queries, with 95% intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lineup.evaluation import significance
from lineup.evaluation.quality_records import Average, Partial, Range
from lineup.evaluation.rounding import DECIMALS, rounded
from lineup.evaluation.scoring import Scores
from lineup.relevance.relevance import Relevance

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def averages(scores: Scores, relevance: Relevance, samples: int, seed: int) -> dict[str, Average]:
    """Every metric averaged over the scored queries; empty if there are none."""
    scored = scores.scored
    if not scored.any():
        return {}
    labels = relevance.query_labels[scored]
    values = np.column_stack([value[scored] for value in scores.values.values()])
    low, high = significance.bootstrap_interval(values, significance.cluster_codes(labels), samples, seed)
    over_labels = _mean_of_label_means(values[labels >= 0], labels[labels >= 0])
    columns = zip(scores.values, values.mean(axis=0), low, high, over_labels, strict=True)
    return {
        name: Average(
            mean=round(float(mean), DECIMALS),
            low=rounded(lower),
            high=rounded(upper),
            mean_over_labels=rounded(of_labels),
        )
        for name, mean, lower, upper, of_labels in columns
    }


def partial(scores: Scores, relevance: Relevance, samples: int, seed: int) -> Partial | None:
    """What a row's figures leave open; None where the relevance of every pair is known.

    The interval of a range is from the lower end of its least value's to the upper end of its greatest one's.
    """
    if scores.unknown is None:
        return None
    clusters = significance.cluster_codes(relevance.query_labels[scores.scored])
    ranges = {}
    for name, ends in scores.unknown.bounds.items():
        values = np.column_stack([end[scores.scored] for end in ends])
        low, high = significance.bootstrap_interval(values, clusters, samples, seed)
        least, most = (round(float(mean), DECIMALS) for mean in values.mean(axis=0))
        ranges[name] = Range(least=least, most=most, low=rounded(low[0]), high=rounded(high[1]))
    judged_at = {
        str(k): round(float(shares[scores.scored].mean()), DECIMALS)
        for k, shares in scores.unknown.judged_at.items()
    }
    return Partial(ranges=ranges, judged_at=judged_at, depth_needed=scores.unknown.depth_needed)


def _mean_of_label_means(values: FloatArray, labels: IntArray) -> FloatArray:
    """The mean over labels of their queries' means, [N, M] -> [M]; NaN without queries."""
    if len(labels) == 0:
        return np.full(values.shape[1], np.nan)
    clusters = significance.cluster_codes(labels)
    sums = np.zeros((clusters.max() + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return (sums / np.bincount(clusters)[:, None]).mean(axis=0)
