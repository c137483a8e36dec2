"""The comparison of rows as records: their order, the best row, and which rows may be as good as it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lineup.costs.running_costs import RunningCosts
from lineup.evaluation.metrics import MAIN_METRIC, top_k_name
from lineup.evaluation.row_metrics import Enlarged, RowMetrics, precision_name

SIGNIFICANCE_LEVEL = 0.05
# A row counts as clearly faster from this ratio on: speeds of one model vary by some per cent between runs.
CLEARLY_FASTER_RATIO = 1.2

Outcome = Literal["best", "worse", "undecided", "random weights"]


class Pair(NamedTuple):
    """Two rows under one metric.

    difference: mean of a minus mean of b; low, high: its 95% interval; p: of the paired test;
    p_holm: p adjusted for the number of pairs. Where the relevance of answers is unknown, see `pairs`.
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


class Ahead(NamedTuple):
    """Rows that are better than the best one in a metric; pair: the furthest ahead of them, and the best."""

    pair: Pair
    rows: int


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

    metric_names: the first decides the order, by its mean or the middle of its range; empty where nothing
    could be scored, and rows come by name.
    running: the running costs of the rows whose speed was measured.
    ahead: in which other metrics than the first rows are better than the best one by more than chance.
    """

    metric_names: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    running: Mapping[str, RunningCosts] = field(default_factory=dict)
    ahead: tuple[Ahead, ...] = ()

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
    def is_exact(self) -> bool:
        """Whether the metric that decides the order is exact for every row."""
        return is_exact(self.metrics, self.metric_names[0])

    @property
    def metrics(self) -> dict[str, RowMetrics]:
        """The metrics of every row, by its name."""
        return {row.name: row.metrics for row in self.rows}

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
    ordered = sorted(set(cutoffs))
    return (_main_metric(rows, ordered), *(top_k_name(k) for k in ordered))


def _main_metric(rows: Mapping[str, RowMetrics], cutoffs: Sequence[int]) -> str:
    """The first metric that is exact for every row: map_at_r, then precision at each k from the largest.

    If none is, it is precision at the largest k, whose ranges are compared.
    """
    precisions = [precision_name(k) for k in reversed(cutoffs)]
    candidates = (MAIN_METRIC, *precisions)
    return next((name for name in candidates if is_exact(rows, name)), precisions[0])


def is_exact(rows: Mapping[str, RowMetrics], metric: str) -> bool:
    """Whether no answer of unknown relevance could change the metric of any row."""
    return all(row.is_exact(metric) for row in rows.values())


def best_row(rows: Mapping[str, RowMetrics], metric: str) -> str | None:
    """The trained row of the highest mean, the first by name of equals; None if all have random weights."""
    trained = [row for row in rows if not rows[row].costs.random]
    return min(trained, key=lambda row: (-rows[row].middle(metric), row), default=None)


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
        pairs: at least every two rows with trained weights under the first metric; under the others those
            that there are.
        running: see `Comparison`.
    """
    running = running or {}
    main_metric = metric_names[0] if metric_names else None
    ordered = sorted(rows, key=lambda row: (-rows[row].middle(main_metric) if main_metric else 0, row))
    if main_metric is None:
        return Comparison((), tuple(ComparedRow(row, rows[row], None) for row in ordered), running)
    best = best_row(rows, main_metric)
    with_best = {
        (pair.metric, other.a): other
        for pair in pairs
        if best in (pair.a, pair.b)
        for other in (pair if pair.b == best else pair.reversed(),)
    }
    compared = []
    for row in ordered:
        if rows[row].costs.random:
            standing = Standing("random weights")
        elif row == best:
            standing = Standing("best")
        else:
            pair = with_best[main_metric, row]
            outcome = "worse" if pair.p_holm < SIGNIFICANCE_LEVEL else "undecided"
            standing = Standing(outcome, pair.p_holm, pair.difference, pair.low, pair.high)
        compared.append(ComparedRow(row, rows[row], standing))
    ahead = tuple(_ahead(metric_names[1:], with_best.values(), rows))
    return Comparison(tuple(metric_names), tuple(compared), running, ahead)


def _ahead(
    metric_names: Iterable[str], with_best: Collection[Pair], rows: Mapping[str, RowMetrics]
) -> Iterator[Ahead]:
    for metric in metric_names:
        ahead = [
            pair
            for pair in with_best
            if pair.metric == metric
            and pair.difference > 0
            and pair.p_holm < SIGNIFICANCE_LEVEL
            and not rows[pair.a].costs.random
        ]
        if ahead:
            yield Ahead(max(ahead, key=lambda pair: pair.difference), len(ahead))


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
