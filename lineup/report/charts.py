"""What the page's charts show: each row's quality, costs and curves, as its scripts read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineup.comparison.comparison import Comparison
from lineup.comparison.sweeps import Sweep
from lineup.costs.running_costs import RunningCosts
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.quality_records import Identification
from lineup.storage import csv_files


@dataclass(frozen=True)
class Cost:
    """A cost that accuracy is drawn against.

    Attributes:
        title: its name and unit, for the axis.
        of: the cost of a row, None where it was not measured.
        more_is_better: as of a speed.
        of_a_device: it was measured on a device, and figures of different devices cannot be compared.
    """

    title: str
    of: Callable[[RowCosts], float | None]
    more_is_better: bool = False
    of_a_device: bool = False


def query_total_ms(costs: RowCosts) -> float | None:
    """Milliseconds of computing for one query: its share of a batch's embedding, and its search."""
    if not costs.images_per_second or costs.query_ms is None:
        return None
    return round(1000 / costs.images_per_second + costs.query_ms, 4)


@dataclass(frozen=True)
class RunningCost:
    """A cost of running a row that accuracy is drawn against; title, of: as in `Cost`."""

    title: str
    of: Callable[[RunningCosts], float | None]
    more_is_better: bool = False
    of_a_device: bool = True


def _dollars_month(running: RunningCosts) -> float | None:
    return running.dollars.month if running.dollars else None


# What rows are chosen by comes first.
RUNNING_COSTS = {
    "dollars_month": RunningCost("$ a month", _dollars_month),
    "p50_ms": RunningCost("ms per query, from the photo's file on", lambda running: running.speed.p50.total),
}
COSTS = {
    "query_total_ms": Cost("ms per query, embedding and search", query_total_ms, of_a_device=True),
    "index_mb": Cost("index, MB", lambda costs: costs.index_mb),
    "parameters": Cost("parameters, millions", lambda costs: costs.parameters and costs.parameters / 1e6),
    "gflops": Cost("GFLOPs per image", lambda costs: costs.gflops),
    "train_minutes": Cost("training, minutes", lambda costs: costs.train_minutes, of_a_device=True),
    "images_per_second": Cost(
        "images/s, embedding", lambda costs: costs.images_per_second, more_is_better=True, of_a_device=True
    ),
}


def read_curves(path: Path) -> dict[str, list[float]]:
    """metrics/top_k_curves.csv: {row: top_k at k = 1, 2, ...}."""
    curves: dict[str, list[float]] = defaultdict(list)
    for line in csv_files.read_csv(path):
        curves[line["model"]].append(float(line["top_k"]))
    return dict(curves)


def chart_data(
    compared: Comparison,
    cutoffs: Iterable[int],
    curves: Mapping[str, list[float]],
    matched: Iterable[str],
    made_of: Mapping[str, Iterable[str]],
    sweeps: Iterable[Sweep] = (),
    maps: Iterable[str] = (),
) -> dict[str, Any]:
    """What the page draws without any further file, with rows from best to worst.

    Args:
        cutoffs: the k of top_k that a reader can choose.
        curves: {row: top_k at k = 1, 2, ...}.
        matched: rows whose vectors near copies of training photos were searched with.
        made_of: {refinement: the rows that it is made of}.
        sweeps: of the rows, as `sweeps.find` returns them.
        maps: rows that have a map of the photos.
    """
    rows = []
    for row in compared.rows:
        costs, quality = row.metrics.costs, row.metrics.quality.get(MAIN_METRIC)
        rows.append(
            {
                "name": row.name,
                "random": costs.random,
                "quality": quality.model_dump() if quality else None,
                "costs": _costs(costs, compared.running.get(row.name)),
                "latency": _latency(compared.running.get(row.name)),
                "device": costs.device,
                "made_of": [*dict.fromkeys(made_of.get(row.name, ()))],
                "training": [epoch.model_dump() for epoch in costs.training_curve],
                "curve": curves.get(row.name, []),
                "match": _match(row.metrics.identification),
            }
        )
    return {
        "rows": rows,
        "costs": _axes(row["costs"] for row in rows),
        "cutoffs": sorted(set(cutoffs)) if compared.metric_names else [],
        "matched": list(matched),
        "maps": list(maps),
        "sweeps": [{"setting": setting, "points": [*values.items()]} for setting, values in sweeps],
        "partial": any(row.metrics.is_partly_judged for row in compared.rows),  # some answers were not judged
    }


def _costs(costs: RowCosts, running: RunningCosts | None) -> dict[str, float | None]:
    of_running = {key: running and cost.of(running) for key, cost in RUNNING_COSTS.items()}
    return of_running | {key: cost.of(costs) for key, cost in COSTS.items()}


def _axes(costs: Iterable[Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """The costs that a row has. What a query costs is estimated only where no query was timed."""
    rows = [*costs]
    known = {key for row in rows for key, value in row.items() if value}
    if "p50_ms" in known:
        known.discard("query_total_ms")
    return [_axis(key, cost) for key, cost in (RUNNING_COSTS | COSTS).items() if key in known]


def _latency(running: RunningCosts | None) -> dict[str, Any] | None:
    """A query's milliseconds, as latency.js reads them."""
    if running is None:
        return None
    speed = running.speed
    times = {"p50": speed.p50.model_dump(), "p95": speed.p95.total, "first": speed.first.total}
    return {**times, "queries": speed.queries}


def _match(identified: Identification | None) -> dict[str, Any] | None:
    """Which score tells a match from none, as match.js reads it."""
    if identified is None:
        return None
    points = [{"target": point.target, "threshold": point.threshold} for point in identified.operating_points]
    drawn = identified.model_dump(include={"mated", "non_mated", "stand_ins", "curve", "histogram"})
    return drawn | {"points": points}


def _axis(key: str, cost: Cost | RunningCost) -> dict[str, Any]:
    return {
        "key": key,
        "title": cost.title,
        "more_is_better": cost.more_is_better,
        "of_a_device": cost.of_a_device,
    }
