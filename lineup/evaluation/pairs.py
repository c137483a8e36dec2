"""The differences between every two rows, and whether they are more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lineup.evaluation import significance
from lineup.evaluation.comparison import Pair

# More pairs need smaller p values to survive Holm's correction, and more flips to see such values.
FEWEST_FLIPS = 10_000
FLIPS_PER_PAIR = 200

Queries = Mapping[str, pa.Table]  # metrics/queries/<row>.csv by row, the same queries in the same order


def compare_pairs(queries: Queries, metric_names: Sequence[str], samples: int, seed: int) -> list[Pair]:
    """Every two rows under each metric: difference, its interval, and the p value of the paired test."""
    row_pairs = list(combinations(queries, 2))
    if not row_pairs or not metric_names:
        return []
    first = next(iter(queries.values()))
    scored = first.column("relevant").to_numpy() > 0
    clusters = significance.cluster_codes(label_codes(first)[scored])
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


def label_codes(queries: pa.Table) -> npt.NDArray[np.int64]:
    """A code for each query's label, -1 where it has none: int [Q]."""
    labels = queries.column("label").combine_chunks().dictionary_encode()
    known = np.array([label != "" for label in labels.dictionary.to_pylist()], bool)
    codes = labels.indices.to_numpy().astype(np.int64)
    return np.where(known[codes], codes, -1)
