"""How trained rows do on labels that they were trained on and on others, against the rows they started from.

What is trained on some labels may gain there and lose elsewhere. A row's start is the row with the same
encoder and `objective: none`.
Source of the problem: arXiv 2508.12137.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np

from lineup.evaluation import figure_tables, query_tables
from lineup.evaluation.figure_tables import Difference
from lineup.evaluation.query_tables import Queries
from lineup.evaluation.row_metrics import RowMetrics
from lineup.storage import csv_files
from lineup.training_effects import against_start
from lineup.training_effects.against_start import AgainstStart

Group = Literal["seen", "unseen"]
GROUPS: tuple[Group, ...] = ("seen", "unseen")


class OfLabels(NamedTuple):
    """A trained row's first metric over the queries whose labels it was trained on, or over the others.

    start: the row that it started from, None if there is none; queries, labels: of the group; mean: of the
    metric, with low and high, its 95% interval; to_start: that mean minus the start's in the same group.
    low, high and the interval of to_start are None where there are too few queries or labels to tell.
    """

    model: str
    start: str | None
    group: Group
    queries: int
    labels: int
    metric: str
    mean: float
    low: float | None
    high: float | None
    to_start: Difference | None

    @classmethod
    def of(cls, row: str, start: str | None, group: Group, metric: str, measured: AgainstStart) -> OfLabels:
        """A line of what was measured."""
        queries, labels, mean, low, high, to_start = measured
        return cls(row, start, group, queries, labels, metric, mean, low, high, to_start)

    @property
    def is_large(self) -> bool:
        """Whether there are enough queries and labels to tell anything."""
        return against_start.is_large(self.queries, self.labels)


def compute(
    starts: Mapping[str, str | None],
    rows: Mapping[str, RowMetrics],
    queries: Queries,
    metric: str,
    samples: int,
    seed: int,
) -> list[OfLabels]:
    """Every trained row over the queries of seen and of unseen labels; a group without queries is left out.

    Args:
        starts: of each trained row, its start.
        rows, queries: of all rows, exact in `metric`.
        samples: of the bootstrap.
    """
    scored = query_tables.scored(queries)
    first = next(iter(scored.values()))
    names, codes = np.array(first.column("label").to_pylist(), np.str_), query_tables.label_codes(first)
    values = {row: table.column(metric).to_numpy() for row, table in scored.items()}
    computed: list[OfLabels] = []
    for row, start in starts.items():
        training = rows[row].training
        if training is None:
            continue
        seen = np.isin(names, np.array(training.in_test, np.str_))
        for group, member in zip(GROUPS, (seen & (codes >= 0), ~seen & (codes >= 0)), strict=True):
            if not member.any():
                continue
            own = values[row][member]
            away = own - values[start][member] if start is not None else None
            of = against_start.measure(own, away, codes[member], samples, seed)
            computed.append(OfLabels.of(row, start, group, metric, of))
    return adjusted(computed)


def adjusted(computed: Sequence[OfLabels]) -> list[OfLabels]:
    """With the p of each difference adjusted for the number of all."""
    differences = against_start.adjusted([each.to_start for each in computed])
    return [each._replace(to_start=to_start) for each, to_start in zip(computed, differences, strict=True)]


HEADER = (
    *("model", "start", "group", "queries", "labels", "metric", "mean", "low", "high"),
    *("to_start", "to_start_low", "to_start_high", "to_start_p_holm"),
)


def write(path: Path, computed: Iterable[OfLabels]) -> None:
    """metrics/seen_labels.csv; what can't be told is empty."""
    csv_files.write_csv(path, HEADER, map(cells, computed))


def cells(each: OfLabels) -> list[object]:
    """The cells of HEADER."""
    numbers = (each.mean, each.low, each.high, *figure_tables.of_difference(each.to_start))
    return [each.model, each.start or "", *each[2:6], *figure_tables.cells(numbers)]


def read(path: Path) -> list[OfLabels]:
    """The lines of metrics/seen_labels.csv. Raises UserError if it does not exist or is damaged."""
    return figure_tables.read(path, of_line, "compare")


def of_line(line: Mapping[str, str]) -> OfLabels:
    """What `cells` wrote."""
    return OfLabels(
        model=line["model"],
        start=line["start"] or None,
        group=cast(Group, line["group"]),
        queries=int(line["queries"]),
        labels=int(line["labels"]),
        metric=line["metric"],
        mean=float(line["mean"]),
        low=figure_tables.number(line, "low"),
        high=figure_tables.number(line, "high"),
        to_start=figure_tables.difference(line, "to_start"),
    )
