"""Speeds of rows that were measured at different times, made comparable.

While a row was measured, other processes may have used the cores. By how much they slowed it down was
measured, too, and its speeds are multiplied by that. Rows of one network share one figure, the median of what
was measured of each of them: they can't differ in speed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from lineup.costs import row_costs
from lineup.costs.latency import Latency, Times
from lineup.costs.running_costs import RowSpeed, Spread
from lineup.evaluation.cost_records import PartCosts
from lineup.evaluation.row_metrics import RowMetrics


def comparable(measured: Mapping[str, Latency], rows: Mapping[str, RowMetrics]) -> dict[str, RowSpeed]:
    """The speeds of rows, each corrected for what else was computing, and shared by the rows of a network.

    Args:
        measured: by row; others have no speed.
        rows: the metrics of at least these rows.
    """
    same_query = _groups({row: _query_key(each, rows[row]) for row, each in measured.items()})
    same_network = _groups({row: _network_key(each) for row, each in measured.items()})
    speeds = {}
    for row, own in measured.items():
        alike = [measured[each] for each in same_query[row]]
        rounds = [speed for each in same_network[row] for speed in _embedding_speeds(measured[each])]
        speeds[row] = RowSpeed(
            first=_median(each.first for each in alike),
            p50=_median(each.alone.p50 for each in alike),
            p95=_median(each.alone.p95 for each in alike),
            queries=min(each.alone.queries for each in alike),
            uploads=own.uploads,
            per_second=statistics.median(speed for each in alike for speed in _query_speeds(each)),
            embedding=Spread(*np.percentile(rounds, (50, 25, 75)).tolist()) if rounds else None,
            slowdown=statistics.median(own.together.slowdown),
            device=own.device if own.gpu else f"{own.device}, {own.threads} threads",
            threads=own.threads,
            gpu=own.gpu,
        )
    return speeds


def alone(measured: Mapping[str, Latency], rows: Mapping[str, RowMetrics]) -> dict[str, RowSpeed]:
    """As `comparable`, but of each row by itself: another row changes nothing of it."""
    return {row: comparable({row: own}, rows)[row] for row, own in measured.items()}


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


def _query_speeds(measured: Latency) -> list[float]:
    """Queries per second of each pass, without what other processes took."""
    queries = measured.together
    return _undisturbed(measured, queries.per_second, queries.slowdown)


def _embedding_speeds(measured: Latency) -> list[float]:
    """Images per second of each round, without what other processes took; none of a refinement."""
    embedding = measured.embedding
    return _undisturbed(measured, embedding.images_per_second, embedding.slowdown) if embedding else []


def _undisturbed(measured: Latency, speeds: Sequence[float], slowdowns: Sequence[float]) -> list[float]:
    """Speeds times what they were slowed down by; as they are on a GPU, of which cores tell too little."""
    if measured.gpu:
        return [*speeds]
    return [speed * slowdown for speed, slowdown in zip(speeds, slowdowns, strict=True)]


def _machine(measured: Latency) -> Hashable:
    return measured.device, measured.threads


def _network_key(measured: Latency) -> Hashable:
    """Equal for rows that embed at the same speed; None of a refinement."""
    if measured.network is None:
        return None
    return measured.network, measured.engine, measured.precision, _machine(measured)


def _query_key(measured: Latency, metrics: RowMetrics) -> Hashable:
    """Equal for rows whose queries take the same time; None of a row that is alone with its time.

    They are of one network, with exact search, and were measured with the same photos: a camera's file takes
    longer to decode than the prepared image that stands for it where data/raw is not here.
    """
    if measured.network is None or metrics.costs.search is not None:
        return None
    return _network_key(measured), measured.gallery, measured.uploads


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
