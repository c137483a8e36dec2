"""What rows cost in dollars, and which rows are Pareto-optimal in quality and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lineup.costs.running_costs import Dollars, RowSpeed, RunningCosts
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.row_metrics import RowMetrics
from lineup.settings.prices import Prices

# A row counts as cheaper than another from this ratio on: equal rows differ by some per cent between runs.
CHEAPER_RATIO = 1.1
_SECONDS_PER_HOUR = 3600
_MILLION = 1_000_000


class Worth(NamedTuple):
    """What a row is worth, higher is better, and what it costs, in any unit above 0."""

    quality: float
    cost: float


def beats(one: Worth, other: Worth) -> bool:
    """Whether nobody would choose the other.

    So it is if the other is worth less and is not clearly cheaper, or is worth as much and is clearly dearer.
    Equal rows do not beat each other. No row beats one that is worth more, so that some row is
    Pareto-optimal.
    """
    if one.quality > other.quality:
        return one.cost < other.cost * CHEAPER_RATIO
    return one.quality == other.quality and one.cost * CHEAPER_RATIO <= other.cost


def pareto_optimal(rows: Mapping[str, Worth]) -> set[str]:
    """The rows that no other row beats."""
    return {
        row
        for row, own in rows.items()
        if not any(beats(worth, own) for other, worth in rows.items() if other != row)
    }


def dollars(metrics: RowMetrics, speed: RowSpeed, prices: Prices) -> Dollars | None:
    """What a row costs; None where the price of the machine or the size of the index is unknown."""
    hour, index_mb = prices.hour(speed.threads, speed.gpu), metrics.costs.index_mb
    if hour is None or index_mb is None:
        return None
    photos = metrics.costs.images_per_second
    queries = _per_million(hour, speed.per_second)
    index_month = index_mb / 1000 * prices.memory_gb_month
    return Dollars(
        million_photos=_per_million(hour, photos) if photos else None,
        million_queries=queries,
        index_month=index_month,
        month=queries * prices.queries_per_month / _MILLION + index_month,
    )


def running_costs(
    rows: Mapping[str, RowMetrics], speeds: Mapping[str, RowSpeed], prices: Prices
) -> dict[str, RunningCosts]:
    """The running costs of the rows whose speed was measured.

    A row with random weights beats none, and is not Pareto-optimal. Where rows were measured on different
    machines, or answers are not judged, it is unknown which are.

    Args:
        rows: with the images per second that `speeds.with_speeds` gives them.
    """
    costs = {row: dollars(rows[row], speed, prices) for row, speed in speeds.items()}
    worths = {
        row: Worth(rows[row].quality[MAIN_METRIC].mean, cost.month)
        for row, cost in costs.items()
        if cost and MAIN_METRIC in rows[row].quality and not rows[row].costs.random
    }
    is_exact = all(rows[row].is_exact(MAIN_METRIC) for row in worths)
    if not is_exact or len({speeds[row].device for row in worths}) > 1:
        worths = {}
    best = pareto_optimal(worths)
    return {
        row: RunningCosts(speed, costs[row], row in best if row in worths else None)
        for row, speed in speeds.items()
    }


def _per_million(hour: float, per_second: float) -> float:
    return hour / (per_second * _SECONDS_PER_HOUR) * _MILLION
