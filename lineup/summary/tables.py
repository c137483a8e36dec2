"""The tables of the comparison, quality, cost and money, with figures as they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lineup.comparison import comparison
from lineup.comparison.comparison import ComparedRow, Comparison, Standing
from lineup.costs.running_costs import Dollars, RunningCosts
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.quality_records import Average, Range
from lineup.layouts import edit_kinds
from lineup.summary.rich_text import Data, Text

NO_FIGURE = "-"
AGAINST_THE_BEST = "against the best"
PARETO_OPTIMAL = "✓"


@dataclass(frozen=True)
class RowName:
    """random: its weights are random, so its figures are no result."""

    name: str
    random: bool


@dataclass(frozen=True)
class Estimate:
    """A mean, or the range of what it can be, and its 95% interval, as "(.609-.666)"; empty if there is none.

    value, low, high: the same numbers, with None for those of an interval that does not exist; of a range,
    the middle.
    """

    mean: str
    interval: str
    value: float
    low: float | None
    high: float | None


Cell = RowName | Estimate | Standing | Data | str


class Table(NamedTuple):
    """Lines have a cell for each column of the header."""

    header: list[str]
    lines: list[list[Cell]]


class Section(NamedTuple):
    """A part of the comparison; table: None where the sentences say all."""

    title: str
    table: Table | None
    sentences: list[Text]


def quality(compared: Comparison) -> Table:
    """How good each row is, and why nothing could be scored if so."""
    if not compared.metric_names:
        lines: list[list[Cell]] = [
            [RowName(row.name, random=False), row.metrics.unscored or ""] for row in compared.rows
        ]
        return Table(["row", "quality"], lines)
    main_metric, *other_metrics = compared.metric_names
    by_label = [f"{main_metric} by label"] if _labels_matter(compared, main_metric) else []
    depth = judged_depth(compared)
    judged = [f"judged@{depth}"] if depth else []
    lines = []
    for row in compared.rows:
        averages = row.metrics.quality
        line = [_name(row), _quality(row, main_metric), row.standing or ""]
        line += [_quality(row, name) for name in other_metrics]
        line += [figure(averages[main_metric].mean_over_labels, 3)] if by_label else []
        line += [_judged_at(row, depth)] if depth else []
        lines.append(line)
    return Table(["row", main_metric, AGAINST_THE_BEST, *other_metrics, *by_label, *judged], lines)


def judged_depth(compared: Comparison) -> int | None:
    """The largest k of judged@k; None where the relevance of all pairs is known."""
    partial = [row.metrics.partial for row in compared.rows if row.metrics.partial]
    return max((int(k) for each in partial for k in each.judged_at), default=None)


def _judged_at(row: ComparedRow, k: int) -> str:
    partial = row.metrics.partial
    return figure(partial.judged_at[str(k)] if partial else 1.0, 3)


def edits(compared: Comparison) -> Table | None:
    """top_1 for each kind of edit; None where no query is an edited copy."""
    kinds = [kind for kind in edit_kinds.NAMES if kind in compared.task.edits]
    if not kinds:
        return None
    lines: list[list[Cell]] = [
        [_name(row), *(figure(row.metrics.edits[kind].top_1, 2) for kind in kinds)] for row in compared.rows
    ]
    return Table(["row", *kinds], lines)


def cost(compared: Comparison) -> Table:
    """What each row costs, beside its quality under the first metric."""
    main_metric = compared.metric_names[:1]
    depth = comparison.ann_depth(compared)
    query = ["p50 ms", "p95 ms"] if compared.running else ["query ms"]
    header = ["row", *main_metric, "images/s", *query, "dim", "index MB"]
    header += ["index", f"ANN recall@{depth}"] if depth else []
    header += ["memory MB", "params M", "GFLOPs", "px", "train min", "licence"]
    lines: list[list[Cell]] = []
    for row in compared.rows:
        costs = row.metrics.costs
        millions = costs.parameters and costs.parameters / 1e6
        running = compared.running.get(row.name)
        lines.append(
            [
                _name(row),
                *(_quality(row, name).mean for name in main_metric),
                _speed(costs, running),
                *(_query_times(running) if compared.running else [figure(costs.query_ms, 2)]),
                figure(costs.dim, 0),
                figure(costs.index_mb, 1),
                *(_index(costs, depth) if depth else []),
                figure(costs.peak_gpu_memory_mb or costs.peak_memory_mb, 0),
                figure(millions, 1),
                figure(costs.gflops, 2),
                figure(costs.image_size, 0),
                figure(costs.train_minutes or None, 1),
                Data(costs.licence or "unknown"),
            ]
        )
    return Table(header, lines)


def money(compared: Comparison) -> Table | None:
    """What it costs to run each row, in dollars; None where no price or speed is known."""
    if not any(running.dollars for running in compared.running.values()):
        return None
    main_metric = compared.metric_names[:1]
    header = ["row", *main_metric, "Pareto", "$/M photos", "$/M queries", "$ index/month", "$/month"]
    lines: list[list[Cell]] = []
    for row in compared.rows:
        running = compared.running.get(row.name)
        dollars = running and running.dollars
        lines.append(
            [
                _name(row),
                *(_quality(row, name).mean for name in main_metric),
                PARETO_OPTIMAL if running and running.pareto_optimal else "",
                *(_dollars(value) for value in dollars or (None,) * len(Dollars._fields)),
            ]
        )
    return Table(header, lines)


def _dollars(value: float | None) -> str:
    """To the cent, or to two digits below a dollar."""
    if value is None or value >= 1 or value == 0:
        return figure(value, 2)
    return f"{value:#.2g}" if value >= 0.001 else "< 0.001"


def _speed(costs: RowCosts, running: RunningCosts | None) -> Estimate | str:
    """Images per second, with the bounds of the rounds' middle half where they were measured in rounds."""
    spread = running.speed.embedding if running else None
    mean, value = figure(costs.images_per_second, 1), costs.images_per_second
    if spread is None or value is None:
        return mean
    return Estimate(mean, f"({spread.low:,.0f}-{spread.high:,.0f})", value, spread.low, spread.high)


def _query_times(running: RunningCosts | None) -> list[str]:
    if running is None:
        return [NO_FIGURE, NO_FIGURE]
    return [figure(times.total, 1) for times in (running.speed.p50, running.speed.p95)]


def figure(value: float | None, digits: int) -> str:
    """A number with this many decimals, and commas between thousands."""
    return NO_FIGURE if value is None else f"{value:,.{digits}f}"


def difference(value: float, low: float | None, high: float | None, p: float | None) -> str:
    """A difference for a reader: "+0.023 (+0.011 to +0.037, p = 0.007)"; what is not known is left out."""
    known = [] if low is None or high is None or math.isnan(low) else [f"{signed(low)} to {signed(high)}"]
    known += [] if p is None else [p_value(p)]
    return f"{signed(value)} ({', '.join(known)})" if known else signed(value)


def signed(value: float) -> str:
    """With three decimals and a sign, which of zero is "+"."""
    return f"{round(value, 3) + 0.0:+.3f}"


def size(value: float, low: float | None, high: float | None, p: float | None) -> str:
    """The size of a difference, for a sentence that says its sign: "0.023 (0.011 to 0.037, p = 0.007)"."""
    sign = -1 if value < 0 else 1
    ends = [] if low is None or high is None or math.isnan(low) else sorted((sign * low, sign * high))
    known = [" to ".join(f"{end:.3f}" for end in ends)] if ends else []
    known += [] if p is None else [p_value(p)]
    return f"{abs(value):.3f} ({', '.join(known)})" if known else f"{abs(value):.3f}"


def p_value(p: float) -> str:
    """A p value for a reader: "p = 0.012"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _name(row: ComparedRow) -> RowName:
    return RowName(row.name, row.metrics.costs.random)


def _labels_matter(compared: Comparison, metric: str) -> bool:
    """Whether the mean over labels is shown differently from the mean over queries.

    Where every label has as many queries, it is not. The label of an edited copy is no class of photos.
    """
    if compared.task.edits_only:
        return False
    averages = [row.metrics.quality[metric] for row in compared.rows]
    return any(
        average.mean_over_labels is not None
        and figure(average.mean_over_labels, 3) != figure(average.mean, 3)
        for average in averages
    )


def _quality(row: ComparedRow, metric: str) -> Estimate:
    own = row.metrics.range_of(metric)
    return _estimate(own or row.metrics.quality[metric], row.metrics.middle(metric))


def _estimate(average: Average | Range, value: float) -> Estimate:
    mean = figure(value, 3)
    if isinstance(average, Range):
        mean = f"{average.least:.3f} to {average.most:.3f}"
    if average.low is None or average.high is None:
        return Estimate(mean, "", value, None, None)
    low, high = (f"{end:.3f}".removeprefix("0") for end in (average.low, average.high))
    return Estimate(mean, f"({low}-{high})", value, average.low, average.high)


def _index(costs: RowCosts, depth: int) -> list[str]:
    """The row's index (kind, storage where it is not float32, search parameters), and its recall."""
    search = costs.search
    if search is None:
        return ["exact", NO_FIGURE]
    words = [search.index, *([search.storage] if search.storage != "float32" else [])]
    words += [f"{name}={value}" for name, value in search.parameters.items()]
    return [" ".join(words), figure(search.ann_recall.get(str(depth)), 3)]
