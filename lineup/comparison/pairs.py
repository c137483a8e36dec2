"""The differences between every two rows, and whether they are more than chance.

Where the relevance of answers is unknown, a difference has a least value, by which all unknown answers of the
one row are wrong and all of the other's are right, and a greatest one. It is given in their middle. Its
interval covers both of theirs, and its p is the larger one, or 1 if they have different signs: no
difference is called more than chance that unknown answers could take back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lineup.comparison.comparison import Pair
from lineup.evaluation import query_tables, significance
from lineup.evaluation.query_tables import FloatArray, Queries
from lineup.evaluation.significance import IntArray

# More pairs need smaller p values to survive Holm's correction, and more flips to see such values.
FEWEST_FLIPS = 10_000
FLIPS_PER_PAIR = 200


def compare_pairs(queries: Queries, metric_names: Sequence[str], samples: int, seed: int) -> list[Pair]:
    """Every two rows under each metric: difference, its interval, and the p value of the paired test."""
    row_pairs = list(combinations(queries, 2))
    if not row_pairs or not metric_names:
        return []
    first = next(iter(queries.values()))
    scored = query_tables.is_scored(first)
    clusters = significance.cluster_codes(query_tables.label_codes(first)[scored])
    flips = max(FEWEST_FLIPS, FLIPS_PER_PAIR * len(row_pairs))
    compared = []
    for metric in metric_names:
        ends = {row: query_tables.ends(table, metric) for row, table in queries.items()}
        least, most = (
            np.column_stack([ends[a][own][scored] - ends[b][1 - own][scored] for a, b in row_pairs])
            for own in (0, 1)
        )
        figures = _figures(least, clusters, samples, flips, seed)
        if not np.array_equal(least, most):
            figures = _joined(figures, _figures(most, clusters, samples, flips, seed))
        columns = (*figures, significance.holm(figures.p))
        for (a, b), *numbers in zip(row_pairs, *columns, strict=True):
            compared.append(Pair(metric, a, b, *map(float, numbers)))
    return compared


class _Figures(NamedTuple):
    """Of each pair: float [P] each."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray


def _figures(differences: FloatArray, clusters: IntArray, samples: int, flips: int, seed: int) -> _Figures:
    """The figures of differences, float [N, P]."""
    low, high = significance.bootstrap_interval(differences, clusters, samples, seed)
    p = significance.randomisation_test(differences, clusters, flips, seed)
    return _Figures(differences.mean(axis=0), low, high, p)


def _joined(least: _Figures, most: _Figures) -> _Figures:
    """The figures of differences that are between two ends."""
    same_sign = np.sign(least.mean) == np.sign(most.mean)
    p = np.where(same_sign, np.maximum(least.p, most.p), 1.0)
    return _Figures((least.mean + most.mean) / 2, least.low, most.high, p)
