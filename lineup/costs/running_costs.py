"""What it takes to run a row in production: its speed, made comparable, and its dollars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lineup.costs.latency import Times

# From this slowdown on, a row counts as measured while the machine was busy.
BUSY_SLOWDOWN = 1.15
# Among fewer queries, chances are above 5% that not one takes as long as the real p95: 0.95 ** 58 = 0.051.
FEWEST_QUERIES_FOR_P95 = 59


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
    queries: how many p50 and p95 are of, where rows share them the least of these rows. uploads: how many of
    their photos were files of their owner; the others were prepared images, which are decoded faster.
    slowdown: by which other processes slowed it down, as a median. threads: of the processor.
    """

    first: Times
    p50: Times
    p95: Times
    queries: int
    uploads: int
    per_second: float
    embedding: Spread | None
    slowdown: float
    device: str
    threads: int
    gpu: bool

    @property
    def busy(self) -> bool:
        """Whether other processes used the machine while the row was measured."""
        return self.slowdown >= BUSY_SLOWDOWN

    @property
    def p95_is_rough(self) -> bool:
        """Whether p95 is of so few queries that it may well lie below the real one."""
        return self.queries < FEWEST_QUERIES_FOR_P95


class Dollars(NamedTuple):
    """What a row costs, on a machine that is busy with it all the time.

    million_photos: to embed a million photos; million_queries: to answer a million queries, from the photo's
    file on; index_month: memory for the index; month: queries_per_month, and the index.
    """

    million_photos: float | None
    million_queries: float
    index_month: float
    month: float


@dataclass(frozen=True)
class RunningCosts:
    """What it takes to run a row.

    dollars: None where the price of the machine is unknown. pareto_optimal: by `money.beats`, None where it
    is unknown.
    """

    speed: RowSpeed
    dollars: Dollars | None
    pareto_optimal: bool | None
