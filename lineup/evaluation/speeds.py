"""Speeds of rows that were measured at different times, made comparable.

Each row was timed in turns with a fixed computation, the reference load. Where that took clearly longer than
it did for another row on the same machine, something else was computing meanwhile, and the row's times are
divided by how much longer it took. Rows of one network share one figure, the median of what was measured of
each of them: they can't differ in speed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lineup.evaluation import row_costs
from lineup.evaluation.latency import Latency, Times
from lineup.evaluation.row_metrics import PartCosts, RowMetrics

# From this ratio of the reference load on, a row counts as measured while the machine was busy.
BUSY_RATIO = 1.15
# Below this share of the processors' time, too.
LEAST_PROCESSOR_SHARE = 0.75


@dataclass(frozen=True)
class Spread:
    """Images per second: the median over rounds, and the bounds of their middle half."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class RowSpeed:
    """How fast a row is; times in milliseconds.

    first: of the first query after loading. p50, p95: of a query alone, by one thread. per_second: queries
    that all threads answer together. embedding: None of a refinement.
    slowed: by which factor the reference load was slower than at the quietest time; 1 where not clearly.
    processor_share: of the processors' time, None where it is unknown.
    """

    first: Times
    p50: Times
    p95: Times
    per_second: float
    embedding: Spread | None
    slowed: float
    processor_share: float | None
    device: str
    threads: int
    gpu: bool

    @property
    def busy(self) -> bool:
        """Whether something else was computing while the row was measured."""
        starved = self.processor_share is not None and self.processor_share < LEAST_PROCESSOR_SHARE
        return self.slowed > 1 or starved


def comparable(measured: Mapping[str, Latency], rows: Mapping[str, RowMetrics]) -> dict[str, RowSpeed]:
    """The speeds of rows, each corrected for what else was computing, and shared by the rows of a network.

    Args:
        measured: by row; others have no speed.
        rows: the metrics of at least these rows.
    """
    alone, together = _slowed(measured, _alone), _slowed(measured, _together)
    batches = _slowed(measured, _batches)
    same_query = _groups({row: _query_key(each, rows[row]) for row, each in measured.items()})
    same_network = _groups({row: _network_key(each) for row, each in measured.items()})
    speeds = {}
    for row, own in measured.items():
        shared = [(measured[each], alone[each], together[each]) for each in same_query[row]]
        rounds = [
            speed * batches[each]
            for each in same_network[row]
            for speed in getattr(measured[each].embedding, "images_per_second", ())
        ]
        speeds[row] = RowSpeed(
            first=_median(each.first.scaled(1 / slow) for each, slow, _ in shared),
            p50=_median(each.alone.p50.scaled(1 / slow) for each, slow, _ in shared),
            p95=_median(each.alone.p95.scaled(1 / slow) for each, slow, _ in shared),
            per_second=statistics.median(each.together.per_second * slow for each, _, slow in shared),
            embedding=Spread(*np.percentile(rounds, (50, 25, 75)).tolist()) if rounds else None,
            slowed=max(alone[row], together[row], batches[row]),
            processor_share=own.embedding.processor_share if own.embedding else None,
            device=own.device if own.gpu else f"{own.device}, {own.threads} threads",
            threads=own.threads,
            gpu=own.gpu,
        )
    return speeds


def with_speeds(rows: Mapping[str, RowMetrics], speeds: Mapping[str, RowSpeed]) -> dict[str, RowMetrics]:
    """The same rows with these images per second, and their device, in place of what `embed` measured.

    Those of a refinement follow from the models that it is made of.
    """

    def speed(row: str, before: float | None) -> float | None:
        measured = speeds[row].embedding if row in speeds and before else None
        return round(measured.median, 2) if measured else before

    def of_part(name: str, part: PartCosts) -> PartCosts:
        return part.model_copy(update={"images_per_second": speed(name, part.images_per_second)})

    changed = {}
    for row, metrics in rows.items():
        costs = metrics.costs
        if costs.parts:
            parts = {name: of_part(name, part) for name, part in costs.parts.items()}
            total = row_costs.combined_throughput([part.images_per_second for part in parts.values()])
            costs = costs.model_copy(update={"parts": parts, "images_per_second": total})
        else:
            costs = costs.model_copy(update={"images_per_second": speed(row, costs.images_per_second)})
        if row in speeds:
            costs = costs.model_copy(update={"device": speeds[row].device})
        changed[row] = metrics.model_copy(update={"costs": costs})
    return changed


def _alone(measured: Latency) -> float | None:
    return measured.alone.reference_ms


def _together(measured: Latency) -> float | None:
    return measured.together.reference_ms


def _batches(measured: Latency) -> float | None:
    return statistics.median(measured.embedding.reference_ms) if measured.embedding else None


def _slowed(
    measured: Mapping[str, Latency], reference: Callable[[Latency], float | None]
) -> dict[str, float]:
    """By which factor a row's reference load was slower than the fastest on its machine; 1 if not clearly."""
    times = {row: (_machine(each), reference(each)) for row, each in measured.items()}
    fastest: dict[Hashable, float] = {}
    for machine, time in times.values():
        if time is not None:
            fastest[machine] = min(time, fastest.get(machine, time))
    factors = {
        row: time / fastest[machine] if time is not None else 1.0 for row, (machine, time) in times.items()
    }
    return {row: factor if factor >= BUSY_RATIO else 1.0 for row, factor in factors.items()}


def _machine(measured: Latency) -> Hashable:
    return measured.device, measured.threads


def _network_key(measured: Latency) -> Hashable:
    """Equal for rows that embed at the same speed; None of a refinement."""
    if measured.network is None:
        return None
    return measured.network, measured.engine, measured.precision, _machine(measured)


def _query_key(measured: Latency, metrics: RowMetrics) -> Hashable:
    """Equal for rows whose queries take the same time: of one network, with exact search. None of others."""
    if measured.network is None or metrics.costs.search is not None:
        return None
    return _network_key(measured), measured.gallery


def _groups(keys: Mapping[str, Hashable]) -> dict[str, list[str]]:
    """For each row those of the same key, itself among them; a row without a key is alone."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for row, key in keys.items():
        groups[key if key is not None else (row,)].append(row)
    return {row: groups[key if key is not None else (row,)] for row, key in keys.items()}


def _median(times: Iterable[Times]) -> Times:
    """The median of each part, and of the total."""
    each = [time.model_dump() for time in times]
    return Times(**{name: statistics.median(time[name] for time in each) for name in each[0]})
