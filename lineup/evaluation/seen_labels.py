"""How trained rows do on labels that they were trained on and on others, against the rows they started from.

What is trained on some labels may gain there and lose elsewhere. A row's start is the row with the same
encoder and `objective: none`.
Source of the problem: arXiv 2508.12137.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, cast

import numpy as np

from lineup.errors import UserError
from lineup.evaluation import query_tables, significance
from lineup.evaluation.query_tables import Queries
from lineup.evaluation.row_metrics import RowMetrics
from lineup.evaluation.significance import FloatArray, IntArray
from lineup.evaluation.slice_groups import FEWEST_QUERIES
from lineup.evaluation.slices import FEWEST_FLIPS, FEWEST_LABELS, FLIPS_PER_SLICE, Difference
from lineup.storage import csv_files

Line = TypeVar("Line")
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

    @property
    def is_large(self) -> bool:
        """Whether there are enough queries and labels to tell anything."""
        return self.queries >= FEWEST_QUERIES and self.labels >= FEWEST_LABELS


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
    computed, tested = [], []
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
            line, p = figures((row, start, group), metric, own, away, codes[member], samples, seed)
            computed.append(line)
            tested.append(p)
    return adjusted(computed, tested)


def figures(
    names: tuple[str, str | None, Group],
    metric: str,
    own: FloatArray,
    away: FloatArray | None,
    labels: IntArray,
    samples: int,
    seed: int,
) -> tuple[OfLabels, float | None]:
    """A group's figures, and the p value of its difference, which `adjusted` adjusts.

    Args:
        names: of the row, its start and the group.
        own: float [n], the row's metric of the group's queries; away: that minus the start's, None without.
        labels: int [n], what `query_tables.label_codes` returned.
    """
    clusters = significance.cluster_codes(labels)
    count = int(clusters.max()) + 1
    line = OfLabels(*names, len(own), count, metric, float(own.mean()), None, None, None)
    if away is not None:
        line = line._replace(to_start=Difference(float(away.mean()), None, None, None))
    if not line.is_large:
        return line, None
    columns = np.column_stack([own] if away is None else [own, away])
    low, high = significance.bootstrap_interval(columns, clusters, samples, seed)
    line = line._replace(low=float(low[0]), high=float(high[0]))
    if away is None:
        return line, None
    # As many flips as Holm's correction of some dozens of rows takes.
    flips = FEWEST_FLIPS + 2 * FLIPS_PER_SLICE
    p = float(significance.randomisation_test(away[:, None], clusters, flips, seed)[0])
    return line._replace(to_start=Difference(float(away.mean()), float(low[1]), float(high[1]), p)), p


def adjusted(computed: Sequence[OfLabels], p: Sequence[float | None]) -> list[OfLabels]:
    """With each p adjusted for the number of all."""
    stepped = iter(significance.holm(np.array([each for each in p if each is not None], np.float64)).tolist())
    return [
        line._replace(to_start=line.to_start._replace(p_holm=next(stepped)))
        if each is not None and line.to_start is not None
        else line
        for line, each in zip(computed, p, strict=True)
    ]


HEADER = (
    *("model", "start", "group", "queries", "labels", "metric", "mean", "low", "high"),
    *("to_start", "to_start_low", "to_start_high", "to_start_p_holm"),
)


def write(path: Path, computed: Iterable[OfLabels]) -> None:
    """metrics/seen_labels.csv; what can't be told is empty."""
    csv_files.write_csv(path, HEADER, map(cells, computed))


def cells(each: OfLabels) -> list[object]:
    """The cells of HEADER."""
    numbers = (each.mean, each.low, each.high, *(each.to_start or (None,) * len(Difference._fields)))
    shown = ("" if value is None else f"{value:.6f}" for value in numbers)
    return [each.model, each.start or "", *each[2:6], *shown]


def read(path: Path) -> list[OfLabels]:
    """The lines of metrics/seen_labels.csv. Raises UserError if it does not exist or is damaged."""
    return read_lines(path, of_line, "compare")


def read_lines(path: Path, record: Callable[[Mapping[str, str]], Line], stage: str) -> list[Line]:
    """A table's lines as records. Raises UserError if it is damaged, with the stage that writes it."""
    lines = csv_files.read_csv(path)
    try:
        return [record(line) for line in lines]
    except (KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: isn't what this version writes ({reason}); run `dvc repro -f -s {stage}`"
        ) from None


def of_line(line: Mapping[str, str]) -> OfLabels:
    """What `cells` wrote."""

    def number(name: str) -> float | None:
        return float(line[name]) if line[name] else None

    ends = (number(f"to_start{end}") for end in ("_low", "_high", "_p_holm"))
    return OfLabels(
        model=line["model"],
        start=line["start"] or None,
        group=cast(Group, line["group"]),
        queries=int(line["queries"]),
        labels=int(line["labels"]),
        metric=line["metric"],
        mean=float(line["mean"]),
        low=number("low"),
        high=number("high"),
        to_start=Difference(float(line["to_start"]), *ends) if line["to_start"] else None,
    )
