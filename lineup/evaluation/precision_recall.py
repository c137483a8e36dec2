"""Precision and recall of a row's first answers, all in one list by their scores.

Symbols: N searches; T thresholds; S resamples.
"""

from __future__ import annotations

import numpy as np

from lineup.evaluation.identification import INTERVAL_QUANTILES, FloatArray, Interval, Searches
from lineup.evaluation.significance import resamples

REQUIRED_PRECISION = 0.9


def ranked_figures(given: Searches, samples: int, seed: int) -> tuple[Interval, Interval]:
    """`micro_average_precision` and `recall_at_precision` 0.9, with intervals from resampled labels."""
    count, searched = int(given.cluster.max()) + 1, len(given.score)
    [values] = _both(given, np.ones((1, searched)))
    ends = np.full((2, 2), np.nan)
    if count > 1:
        draws = resamples(np.random.default_rng(seed), samples, count, searched)
        resampled = [_both(given, drawn[:, given.cluster]) for drawn in draws]
        ends = np.quantile(np.concatenate(resampled), INTERVAL_QUANTILES, axis=0)
    micro, recall = (Interval(float(values[i]), float(ends[0, i]), float(ends[1, i])) for i in range(2))
    return micro, recall


def micro_average_precision(given: Searches, weights: FloatArray) -> FloatArray:
    """Average precision of all first answers in one list: precision at each threshold x gain in recall.

    Recall counts right first answers among the mated searches. Equal scores are one threshold.

    Args:
        weights: float [S, N], how often each search counts.
    Returns:
        float [S].
    Source: Perronnin, Liu & Renders, A family of contextual measures of similarity between distributions,
        CVPR 2009; as GAP in Weyand et al., Google Landmarks Dataset v2, CVPR 2020.
    """
    return _area(*_precision_and_recall(given, weights))


def recall_at_precision(given: Searches, weights: FloatArray, required: float) -> FloatArray:
    """The largest share of mated searches that a threshold answers right, with this precision of the answers.

    Args:
        weights: float [S, N], how often each search counts.
        required: the precision, 0..1.
    Returns:
        float [S], 0 where no threshold is as precise.
    Source: Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022.
    """
    return _largest_recall(*_precision_and_recall(given, weights), required)


def _both(given: Searches, weights: FloatArray) -> FloatArray:
    """`micro_average_precision` and `recall_at_precision` of the same curve: float [S, 2]."""
    precision, recall = _precision_and_recall(given, weights)
    return np.column_stack([_area(precision, recall), _largest_recall(precision, recall, REQUIRED_PRECISION)])


def _area(precision: FloatArray, recall: FloatArray) -> FloatArray:
    return (precision * np.diff(recall, axis=1, prepend=0)).sum(axis=1)


def _largest_recall(precision: FloatArray, recall: FloatArray, required: float) -> FloatArray:
    return np.where(precision >= required, recall, 0).max(axis=1, initial=0)


def _precision_and_recall(given: Searches, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Precision and recall at every threshold, from the strictest on: float [S, T] each."""
    answered = np.isfinite(given.score)
    order = np.argsort(-given.score[answered], kind="stable")
    falling, right = given.score[answered][order], given.right[answered][order]
    last_of_ties = np.append(falling[1:] != falling[:-1], True)[: len(falling)]
    ordered = weights[:, answered][:, order]
    answers = np.cumsum(ordered, axis=1)[:, last_of_ties]
    hits = np.cumsum(ordered * right, axis=1)[:, last_of_ties]
    mated = np.maximum(weights[:, given.mated].sum(axis=1), 1)
    return hits / np.maximum(answers, 1), hits / mated[:, None]
