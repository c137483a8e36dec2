"""The figures that `latency` writes: percentiles and speeds, of the passes and rounds that it timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lineup.costs import latency
from lineup.costs.latency import Embedding, Queries, Times
from lineup.embedding.embedding_speed import Round
from lineup.serving.query_times import Pass, QueryTime


def queries(passes: Sequence[Pass], threads: int) -> Queries:
    """What is written of the passes of so many threads; a photo's time is that of its fastest pass."""
    seconds = np.array([[*time, time.total] for time in fastest(passes)])
    return Queries(
        queries=len(seconds),
        p50=_as_times(np.percentile(seconds, 50, axis=0).tolist()),
        p95=_as_times(np.percentile(seconds, 95, axis=0).tolist()),
        per_second=tuple(round(threads / _mean_seconds(each), 2) for each in passes),
        slowdown=tuple(round(each.slowdown, 3) for each in passes),
    )


def query(time: QueryTime) -> Times:
    """What is written of one query."""
    return _as_times([*time, time.total])


def embedding(rounds: Sequence[Round]) -> Embedding:
    """What is written of the rounds in which images were embedded."""
    return Embedding(
        images_per_second=tuple(round(each.images_per_second, 2) for each in rounds),
        slowdown=tuple(round(each.slowdown, 3) for each in rounds),
    )


def fastest(passes: Sequence[Pass]) -> list[QueryTime]:
    """Of each photo that was reached, the pass with the smallest total."""
    numbers = sorted({number for each in passes for number in each.times})
    return [
        min((each.times[number] for each in passes if number in each.times), key=lambda time: time.total)
        for number in numbers
    ]


def _mean_seconds(one: Pass) -> float:
    """Of a query."""
    return float(np.mean([time.total for time in one.times.values()]))


def _as_times(seconds: Sequence[float]) -> Times:
    """Four parts and the total, in milliseconds."""
    names = (*latency.PARTS, "total")
    return Times(**{name: _milliseconds(value) for name, value in zip(names, seconds, strict=True)})


def _milliseconds(seconds: float) -> float:
    """Rounded to microseconds."""
    return round(1000 * seconds, 3)
