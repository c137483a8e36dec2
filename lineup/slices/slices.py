"""How good each row is in each group of queries, metrics/slices.csv: where it fails and another does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from lineup.evaluation import figure_tables, significance
from lineup.evaluation.figure_tables import Difference
from lineup.slices.slice_groups import FEWEST_QUERIES, Grouping
from lineup.storage import csv_files

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# With fewer clusters, no difference can reach p < 0.05: two of all 2^C flips are as extreme as the clearest.
FEWEST_LABELS = 6
# Differences whose p is larger by the first flips are tested with no more.
FIRST_FLIPS, LEAST_P_OF_FEW_FLIPS = 2_000, 0.1
# Holm's correction of many slices needs small p values, and more flips to see such values.
FEWEST_FLIPS = 10_000
FLIPS_PER_SLICE = 50

Note = Literal["", "too few queries to tell", "too few labels to tell"]


class Slice(NamedTuple):
    """A row's first metric over one group of queries; a line of metrics/slices.csv.

    model: the row; attribute, group: as in `slice_groups.Grouping`; queries: of the group that are scored;
    labels: of these, where a query without a label counts as one; mean: of the metric, with low and high, its
    95% interval; to_mean: that mean minus the row's mean over all queries, p_holm adjusted for all slices of
    the row; to_best: that mean minus the best row's in the same group, p_holm adjusted for all slices of all
    other rows, None for the best row itself and without any; note: why the group says nothing, else empty.
    """

    model: str
    attribute: str
    group: str
    queries: int
    labels: int
    metric: str
    mean: float
    low: float | None
    high: float | None
    to_mean: Difference
    to_best: Difference | None
    note: Note


HEADER = (
    *Slice._fields[:9],
    *("to_mean", "to_mean_low", "to_mean_high", "to_mean_p_holm"),
    *("to_best", "to_best_low", "to_best_high", "to_best_p_holm"),
    "note",
)


class _Counts(NamedTuple):
    """How many queries and labels each group has: int [G]."""

    queries: IntArray
    labels: IntArray

    @property
    def is_large(self) -> npt.NDArray[np.bool_]:
        """Whether a group has enough queries and labels to tell its differences from chance: bool [G]."""
        return (self.queries >= FEWEST_QUERIES) & (self.labels >= FEWEST_LABELS)


class _Measured(NamedTuple):
    """One grouping, measured; R rows, G groups.

    overall: mean over all queries, float [R]; the others: float [G, R].
    """

    grouping: Grouping
    counts: _Counts
    means: FloatArray
    overall: FloatArray
    to_best: FloatArray
    intervals: significance.GroupIntervals
    to_best_intervals: significance.GroupIntervals


def compute(
    values: Mapping[str, FloatArray],
    clusters: IntArray,
    groupings: Iterable[Grouping],
    *,
    metric: str,
    best: str | None,
    samples: int,
    seed: int,
) -> list[Slice]:
    """Every row in every group, ordered by attribute, group and row.

    An attribute is left out unless at least two of its groups are large enough to tell something.

    Args:
        values: by row, the metric of each scored query, float [N].
        clusters: int [N], what `significance.cluster_codes` returned.
        groupings: of the same queries.
        metric: its name.
        best: the best row.
        samples: number of resamples.
        seed: the same seed draws the same resamples and flips.
    """
    rows, columns = list(values), np.column_stack(list(values.values()))
    behind = columns - columns[:, [rows.index(best)]] if best else np.zeros_like(columns)
    measured = [
        _measure(grouping, counts, columns, behind, clusters, samples, seed)
        for grouping in groupings
        if (counts := _count(grouping, clusters)).is_large.sum() >= 2
    ]
    if not measured:
        return []
    to_mean, to_best = _p_values(measured, columns, behind, clusters, seed)
    is_large = np.concatenate([each.counts.is_large for each in measured])
    others = np.array([row != best for row in rows]) & (best is not None)
    for row in range(len(rows)):
        to_mean[is_large, row] = significance.holm(to_mean[is_large, row])
    compared = is_large[:, None] & others
    to_best[compared] = significance.holm(to_best[compared])
    slices, first = [], 0
    for each in measured:
        groups = slice(first, first := first + len(each.means))
        slices += _slices(each, rows, metric, best, to_mean[groups], to_best[groups])
    return slices


def _count(grouping: Grouping, clusters: IntArray) -> _Counts:
    pairs = np.unique(np.column_stack([grouping.codes, clusters]), axis=0)
    return _Counts(np.bincount(grouping.codes), np.bincount(pairs[:, 0]))


def _measure(
    grouping: Grouping,
    counts: _Counts,
    columns: FloatArray,
    behind: FloatArray,
    clusters: IntArray,
    samples: int,
    seed: int,
) -> _Measured:
    means, to_best = (significance.group_means(each, grouping.codes) for each in (columns, behind))
    overall = significance.group_means(columns, np.zeros_like(grouping.codes))[0]
    intervals = significance.bootstrap_group_intervals(
        np.column_stack([columns, behind]), grouping.codes, clusters, samples, seed
    )
    own, others = (
        significance.GroupIntervals(*(np.split(end, 2, axis=1)[half] for end in intervals)) for half in (0, 1)
    )
    return _Measured(grouping, counts, means, overall, to_best, own, others)


def _p_values(
    measured: Sequence[_Measured], columns: FloatArray, behind: FloatArray, clusters: IntArray, seed: int
) -> tuple[FloatArray, FloatArray]:
    """p of "the group's mean is the row's", and of "it is the best row's in the group".

    Few flips show which differences can't be told, since Holm's correction makes no p smaller. The others, of
    all groups together, are tested with as many as the correction takes.

    Returns:
        float [groups of all groupings, R] each.
    """
    sums = [_cluster_sums(each.grouping.codes, columns, behind, clusters) for each in measured]
    own_clusters = np.arange(len(sums[0]))
    p = [significance.randomisation_test(each, own_clusters, FIRST_FLIPS, seed) for each in sums]
    undecided = [each < LEAST_P_OF_FEW_FLIPS for each in p]
    flips = max(FEWEST_FLIPS, FLIPS_PER_SLICE * sum(each.means.size for each in measured))
    exact = significance.randomisation_test(
        np.column_stack([each[:, chosen] for each, chosen in zip(sums, undecided, strict=True)]),
        own_clusters,
        flips,
        seed,
    )
    joined = np.concatenate(p)
    joined[np.concatenate(undecided)] = exact
    pairs = np.split(joined, np.cumsum([each.size for each in p])[:-1])
    shaped = [pair.reshape(2, *each.means.shape) for pair, each in zip(pairs, measured, strict=True)]
    return np.concatenate([pair[0] for pair in shaped]), np.concatenate([pair[1] for pair in shaped])


def _cluster_sums(codes: IntArray, columns: FloatArray, behind: FloatArray, clusters: IntArray) -> FloatArray:
    """What `_p_values` tests, summed over each cluster: float [C, 2 G R]."""
    contrasts = significance.group_contrasts(columns, codes)
    member = codes[:, None, None] == np.arange(contrasts.shape[1])[:, None]
    tested = np.concatenate([contrasts, np.where(member, behind[:, None, :], 0)], axis=1)
    means = significance.group_means(tested.reshape(len(codes), -1), clusters)
    return means * np.bincount(clusters)[:, None]


def _slices(
    measured: _Measured,
    rows: Sequence[str],
    metric: str,
    best: str | None,
    to_mean_p: FloatArray,
    to_best_p: FloatArray,
) -> Iterable[Slice]:
    counts = measured.counts
    for g, group in enumerate(measured.grouping.groups):
        is_large = bool(counts.is_large[g])
        note: Note = ""
        if not is_large:
            few_queries = counts.queries[g] < FEWEST_QUERIES
            note = "too few queries to tell" if few_queries else "too few labels to tell"
        for r, row in enumerate(rows):
            mean = float(measured.means[g, r])
            own, behind = (
                [float(end[g, r]) if is_large else None for end in intervals]
                for intervals in (measured.intervals, measured.to_best_intervals)
            )
            away = mean - float(measured.overall[r])
            to_mean = Difference(away, own[2], own[3], float(to_mean_p[g, r]) if is_large else None)
            to_best = Difference(
                float(measured.to_best[g, r]),
                behind[0],
                behind[1],
                float(to_best_p[g, r]) if is_large else None,
            )
            yield Slice(
                row,
                measured.grouping.attribute,
                group,
                int(counts.queries[g]),
                int(counts.labels[g]),
                metric,
                mean,
                own[0],
                own[1],
                to_mean,
                to_best if best is not None and row != best else None,
                note,
            )


def write(path: Path, slices: Iterable[Slice]) -> None:
    """Writes metrics/slices.csv."""
    csv_files.write_csv(path, HEADER, (_cells(each) for each in slices))


def _cells(each: Slice) -> list[object]:
    differences = (*each.to_mean, *figure_tables.of_difference(each.to_best))
    return [*each[:6], *figure_tables.cells((*each[6:9], *differences)), each.note]


def read(path: Path) -> list[Slice]:
    """The slices of metrics/slices.csv. Raises UserError if it does not exist or is damaged."""
    return figure_tables.read(path, _slice, "slices")


def _slice(line: Mapping[str, str]) -> Slice:
    to_mean = figure_tables.difference(line, "to_mean")
    if to_mean is None:
        raise ValueError("to_mean is empty")
    return Slice(
        line["model"],
        line["attribute"],
        line["group"],
        int(line["queries"]),
        int(line["labels"]),
        line["metric"],
        float(line["mean"]),
        figure_tables.number(line, "low"),
        figure_tables.number(line, "high"),
        to_mean,
        figure_tables.difference(line, "to_best"),
        cast(Note, line["note"]),
    )
