"""A trained row over some queries, against the row that it started from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lineup.evaluation import significance
from lineup.evaluation.figure_tables import Difference
from lineup.evaluation.significance import FloatArray, IntArray
from lineup.slices.slice_groups import FEWEST_QUERIES
from lineup.slices.slices import FEWEST_FLIPS, FEWEST_LABELS, FLIPS_PER_SLICE

# As many flips as Holm's correction of some dozens of rows takes.
_FLIPS = FEWEST_FLIPS + 2 * FLIPS_PER_SLICE


class AgainstStart(NamedTuple):
    """A row's metric over some queries.

    queries, labels: of them; mean: of the metric, with low and high, its 95% interval; to_start: that mean
    minus the start's, None where the row has no start. low, high and all but the value of to_start are None
    where there are too few queries or labels to tell.
    """

    queries: int
    labels: int
    mean: float
    low: float | None
    high: float | None
    to_start: Difference | None


def is_large(queries: int, labels: int) -> bool:
    """Whether so many queries of so many labels tell anything."""
    return queries >= FEWEST_QUERIES and labels >= FEWEST_LABELS


def measure(
    own: FloatArray, away: FloatArray | None, labels: IntArray, samples: int, seed: int
) -> AgainstStart:
    """The figures of a row; the p of its difference is not adjusted yet.

    Args:
        own: float [N], the row's metric of each query; away: that minus the start's, None without a start.
        labels: int [N], what `query_tables.label_codes` returned.
        samples: of the bootstrap.
    """
    clusters = significance.cluster_codes(labels)
    num_labels, mean = int(clusters.max()) + 1, float(own.mean())
    difference = None if away is None else Difference(float(away.mean()), None, None, None)
    if not is_large(len(own), num_labels):
        return AgainstStart(len(own), num_labels, mean, None, None, difference)
    columns = np.column_stack([own] if away is None else [own, away])
    low, high = significance.bootstrap_interval(columns, clusters, samples, seed)
    if away is not None:
        p = float(significance.randomisation_test(away[:, None], clusters, _FLIPS, seed)[0])
        difference = Difference(float(away.mean()), float(low[1]), float(high[1]), p)
    return AgainstStart(len(own), num_labels, mean, float(low[0]), float(high[0]), difference)


def adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """With each p adjusted for the number of all."""
    tested = [each.p_holm for each in differences if each and each.p_holm is not None]
    stepped = iter(significance.holm(np.array(tested, np.float64)).tolist())
    return [
        each._replace(p_holm=next(stepped)) if each and each.p_holm is not None else each
        for each in differences
    ]
