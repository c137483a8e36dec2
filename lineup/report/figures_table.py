"""The table of all figures: quality and cost in one, intervals as bars, columns that can be hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lineup.comparison.comparison import Comparison, Standing
from lineup.report import column_meanings
from lineup.summary import tables
from lineup.summary.tables import AGAINST_THE_BEST, Cell, Estimate

# Columns by which nobody chooses a row; a reader can show them.
HIDDEN_AT_FIRST = {"dim", "index", "memory MB", "params M", "GFLOPs", "px", "$/M photos", "$ index/month"}
LESS_IS_BETTER = {
    "query ms",
    "p50 ms",
    "p95 ms",
    "dim",
    "index MB",
    "train min",
    "memory MB",
    "params M",
    "GFLOPs",
    "px",
}
# Of the columns of quality: the first metric, its comparison with the best, and three cutoffs.
QUALITY_COLUMNS_AT_FIRST = 6


@dataclass(frozen=True)
class Column:
    """shown: whether the page shows it at first; first_cost: it begins the columns of cost.

    less_is_better: its lowest values come first when it is sorted. meaning: in one line; None where the title
    says all.
    """

    title: str
    shown: bool
    is_text: bool
    first_cost: bool
    less_is_better: bool
    meaning: str | None


@dataclass(frozen=True)
class Bar:
    """An interval as per cent of the span from the column's lowest to its highest interval end."""

    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Figure:
    """A cell; value: what it is sorted by, None where its text is."""

    cell: Cell
    bar: Bar | None
    value: float | None


@dataclass(frozen=True)
class FiguresTable:
    """lines: a row's name, and a figure for each of its columns."""

    columns: list[Column]
    lines: list[tuple[str, list[Figure]]]


def figures_table(compared: Comparison) -> FiguresTable:
    """Quality, cost and money of every row, from best to worst."""
    quality, cost, money = tables.quality(compared), tables.cost(compared), tables.money(compared)
    repeated = 1 + len(compared.metric_names[:1])  # the other tables repeat the name and the first metric
    others = [cost, *([money] if money else [])]
    titles = [*quality.header, *(title for table in others for title in table.header[repeated:])]
    lines = [[*line] for line in quality.lines]
    for table in others:
        for line, more in zip(lines, table.lines, strict=True):
            line += more[repeated:]
    columns = [
        Column(
            title,
            title not in HIDDEN_AT_FIRST
            and not title.startswith("ANN recall")
            and not QUALITY_COLUMNS_AT_FIRST <= number < len(quality.header),
            title in (AGAINST_THE_BEST, "licence", "quality", "index"),
            number == len(quality.header),
            title in LESS_IS_BETTER or title.startswith("$"),
            column_meanings.meaning(title),
        )
        for number, title in enumerate(titles)
    ]
    by_column = [_figures(cells) for cells in zip(*lines, strict=True)]
    rows = [row.name for row in compared.rows]
    return FiguresTable(columns, [*zip(rows, map(list, zip(*by_column, strict=True)), strict=True)])


def _figures(cells: Sequence[Cell]) -> list[Figure]:
    """The figures of one column."""
    estimates = [cell for cell in cells if isinstance(cell, Estimate)]
    ends = [end for cell in estimates for end in (cell.low, cell.high) if end is not None]
    start, span = min(ends, default=0.0), max(ends, default=0.0) - min(ends, default=0.0)

    def bar(cell: Cell) -> Bar | None:
        if not isinstance(cell, Estimate) or cell.low is None or cell.high is None or not span:
            return None
        return Bar(*(round(100 * (value - start) / span, 1) for value in (cell.low, cell.high, cell.value)))

    return [Figure(cell, bar(cell), _value(cell)) for cell in cells]


def _value(cell: Cell) -> float | None:
    if isinstance(cell, Estimate):
        return cell.value
    if isinstance(cell, Standing):
        return 0.0 if cell.outcome == "best" else cell.difference
    return None
