"""The comparison of rows as records: their order, the best row, and which rows may be as good as it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lineup.evaluation.metrics import MAIN_METRIC, top_k_name
from lineup.evaluation.row_metrics import Enlarged, RowMetrics
from lineup.evaluation.running_costs import RunningCosts

SIGNIFICANCE_LEVEL = 0.05
# A row counts as clearly faster from this ratio on: speeds of one model vary by some per cent between runs.
CLEARLY_FASTER_RATIO = 1.2

Outcome = Literal["best", "worse", "undecided", "random weights"]


class Pair(NamedTuple):
    """Two rows under one metric.

    difference: mean of a minus mean of b; low, high: its 95% interval; p: of the paired test;
    p_holm: p adjusted for the number of pairs.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    def reversed(self) -> Pair:
        """The same pair as b minus a."""
        return self._replace(a=self.b, b=self.a, difference=-self.difference, low=-self.high, high=-self.low)


class Standing(NamedTuple):
    """How a row compares with the best row.

    p_holm, difference, low, high: of their pair, the row minus the best row; None where they are not one.
    """

    outcome: Outcome
    p_holm: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ComparedRow:
    """standing: None where nothing could be scored."""

    name: str
    metrics: RowMetrics
    standing: Standing | None


@dataclass(frozen=True)
class Comparison:
    """Rows from best to worst, under the metrics that are shown.

    metric_names: the first decides the order; empty where nothing could be scored, and rows come by name.
    running: the running costs of the rows whose speed was measured.
    """

    metric_names: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    running: Mapping[str, RunningCosts] = field(default_factory=dict)

    @property
    def task(self) -> RowMetrics:
        """Metrics whose queries, gallery and relevance are those of every row."""
        return self.rows[0].metrics

    @property
    def trained(self) -> tuple[ComparedRow, ...]:
        """The rows with trained weights."""
        return tuple(row for row in self.rows if not row.metrics.costs.random)

    @property
    def best(self) -> ComparedRow | None:
        """The best row with trained weights."""
        return next(iter(self.with_outcome("best")), None)

    def with_outcome(self, outcome: Outcome) -> tuple[ComparedRow, ...]:
        """The rows whose comparison with the best row had this outcome."""
        return tuple(row for row in self.rows if row.standing and row.standing.outcome == outcome)

    @property
    def num_pairs(self) -> int:
        """The number of pairs of rows, for Holm's correction."""
        return len(self.rows) * (len(self.rows) - 1) // 2


class MeasurementSetup(NamedTuple):
    """Where and how a row's speeds were measured; speeds of different setups cannot be compared."""

    engine: str | None
    precision: str | None
    device: str | None
    search_device: str
    search_threads: int


def shown_metrics(rows: Mapping[str, RowMetrics], cutoffs: Iterable[int]) -> tuple[str, ...]:
    """The metrics that are compared, the one that orders rows first; none unless every row was scored."""
    if not all(row.quality for row in rows.values()):
        return ()
    return (MAIN_METRIC, *(top_k_name(k) for k in sorted(set(cutoffs))))


def best_row(rows: Mapping[str, RowMetrics], metric: str) -> str | None:
    """The trained row of the highest mean, the first by name of equals; None if all have random weights."""
    trained = [row for row in rows if not rows[row].costs.random]
    return min(trained, key=lambda row: (-rows[row].quality[metric].mean, row), default=None)


def compare(
    rows: Mapping[str, RowMetrics],
    metric_names: Sequence[str],
    pairs: Iterable[Pair],
    running: Mapping[str, RunningCosts] | None = None,
) -> Comparison:
    """Orders the rows, and compares each of them with the best one.

    Args:
        rows: by name, all scored on the same queries and gallery.
        metric_names: those of `shown_metrics`.
        pairs: at least every two rows with trained weights under the first metric.
        running: see `Comparison`.
    """
    running = running or {}
    main_metric = metric_names[0] if metric_names else None
    ordered = sorted(rows, key=lambda row: (-rows[row].quality[main_metric].mean if main_metric else 0, row))
    if main_metric is None:
        return Comparison((), tuple(ComparedRow(row, rows[row], None) for row in ordered), running)
    best = best_row(rows, main_metric)
    with_best = {
        (pair.a if pair.b == best else pair.b): pair if pair.b == best else pair.reversed()
        for pair in pairs
        if pair.metric == main_metric and best in (pair.a, pair.b)
    }
    compared = []
    for row in ordered:
        if rows[row].costs.random:
            standing = Standing("random weights")
        elif row == best:
            standing = Standing("best")
        else:
            pair = with_best[row]
            outcome = "worse" if pair.p_holm < SIGNIFICANCE_LEVEL else "undecided"
            standing = Standing(outcome, pair.p_holm, pair.difference, pair.low, pair.high)
        compared.append(ComparedRow(row, rows[row], standing))
    return Comparison(tuple(metric_names), tuple(compared), running)


def clearly_fastest(rows: Sequence[ComparedRow], running: Mapping[str, RunningCosts]) -> ComparedRow | None:
    """The row that embeds clearly faster than every other; None if their speeds cannot be compared.

    Where both speeds have a spread, the two must not overlap, either.
    """
    speeds = {row.name: row.metrics.costs.images_per_second or 0.0 for row in rows}
    if len(rows) < 2 or len({row.metrics.costs.device for row in rows}) > 1 or not all(speeds.values()):
        return None
    second, fastest = sorted(rows, key=lambda row: speeds[row.name])[-2:]
    spreads = [running[row.name].speed.embedding for row in (second, fastest) if row.name in running]
    if len(spreads) == 2 and spreads[0] and spreads[1] and spreads[0].high >= spreads[1].low:
        return None
    return fastest if speeds[fastest.name] > CLEARLY_FASTER_RATIO * speeds[second.name] else None


def ann_depth(comparison: Comparison) -> int | None:
    """The largest k for which recall@k of an approximate index was measured; None without such an index."""
    searches = [row.metrics.costs.search for row in comparison.rows]
    return max((int(k) for search in searches if search for k in search.ann_recall), default=None)


def measurement_setups(comparison: Comparison) -> dict[MeasurementSetup, list[str]]:
    """The names of the rows that were measured in each setup."""
    setups: dict[MeasurementSetup, list[str]] = {}
    for row in comparison.rows:
        costs = row.metrics.costs
        setup = MeasurementSetup(
            costs.engine, costs.precision, costs.device, costs.search_device, costs.search_threads
        )
        setups.setdefault(setup, []).append(row.name)
    return setups


def enlarging_rows(comparison: Comparison) -> dict[Enlarged, list[str]]:
    """The names of the rows whose transform enlarges images, for each size that it resizes them to."""
    groups: dict[Enlarged, list[str]] = {}
    for row in comparison.rows:
        if row.metrics.enlarged and row.metrics.enlarged.images:
            groups.setdefault(row.metrics.enlarged, []).append(row.name)
    return groups
