"""The differences between every two rows, and whether they are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lineup.evaluation import query_tables, significance
from lineup.evaluation.comparison import Pair
from lineup.evaluation.query_tables import Queries

# More pairs need smaller p values to survive Holm's correction, and more flips to see such values.
FEWEST_FLIPS = 10_000
FLIPS_PER_PAIR = 200


def compare_pairs(queries: Queries, metric_names: Sequence[str], samples: int, seed: int) -> list[Pair]:
    """Every two rows under each metric: difference, its interval, and the p value of the paired test."""
    row_pairs = list(combinations(queries, 2))
    if not row_pairs or not metric_names:
        return []
    first = next(iter(queries.values()))
    scored = first.column("relevant").to_numpy() > 0
    clusters = significance.cluster_codes(query_tables.label_codes(first)[scored])
    flips = max(FEWEST_FLIPS, FLIPS_PER_PAIR * len(row_pairs))
    compared = []
    for metric in metric_names:
        values = {row: table.column(metric).to_numpy()[scored] for row, table in queries.items()}
        differences = np.column_stack([values[a] - values[b] for a, b in row_pairs])
        low, high = significance.bootstrap_interval(differences, clusters, samples, seed)
        p = significance.randomisation_test(differences, clusters, flips, seed)
        columns = (differences.mean(axis=0), low, high, p, significance.holm(p))
        for (a, b), *numbers in zip(row_pairs, *columns, strict=True):
            compared.append(Pair(metric, a, b, *map(float, numbers)))
    return compared
