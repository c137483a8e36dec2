"""The sentences on speed and money: what is cheaper than the best row, and which rows are Pareto-optimal."""

from __future__ import annotations

import math
from collections.abc import Collection

from lineup.comparison.comparison import ComparedRow, Comparison
from lineup.costs.money import CHEAPER_RATIO
from lineup.costs.running_costs import FEWEST_QUERIES_FOR_P95
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.summary.rich_text import Code, Text, names

_NO_SPEED = (
    "images/s: prepared images decoded and embedded per second, without the first batch where enough follow."
)
_CORRECTED = "images/s and $ are corrected for that, p50 and p95 are not"
_NOT_CORRECTED = "On a GPU, nothing is corrected for that"
_NO_QUERY = "query ms: time of one search for one query, without embedding it."


def cheaper(compared: Comparison) -> Text:
    """The row that comes nearest to the best one and is clearly cheaper; empty if there is none."""
    best = compared.best
    if best is None or (best_month := _month(compared, best)) is None:
        return ()
    for row in compared.trained:  # from best to worst
        month = _month(compared, row)
        optimal = row.name in compared.running and compared.running[row.name].pareto_optimal
        if row is not best and optimal and month is not None and month * CHEAPER_RATIO <= best_month:
            return _cheaper(row, best, month / best_month)
    return ()


def _cheaper(row: ComparedRow, best: ComparedRow, cost: float) -> Text:
    assert row.standing and row.standing.low is not None and row.standing.high is not None
    if row.standing.outcome == "undecided":
        return Code(row.name), f" is not told apart from it at {_percent(cost)} of its $/month."
    of_best = best.metrics.quality[MAIN_METRIC].mean
    share = row.metrics.quality[MAIN_METRIC].mean / of_best
    ends = [(of_best + end) / of_best for end in (row.standing.low, row.standing.high)]
    interval = "" if any(map(math.isnan, ends)) else f" ({_percent(ends[0])} to {_percent(ends[1])})"
    has = f" has {_percent(share)}{interval} of the best row's {MAIN_METRIC}"
    return Code(row.name), f"{has} at {_percent(cost)} of its $/month."


def pareto_optimal(compared: Comparison) -> list[Text]:
    """Which rows are Pareto-optimal, in a sentence; none where nothing is known of it."""
    best = [
        row.name
        for row in compared.rows
        if row.name in compared.running and compared.running[row.name].pareto_optimal
    ]
    if not best:
        return []
    return [("Pareto-optimal in ", f"{MAIN_METRIC} and $/month: ", *names(best), ".")]


def busy(compared: Comparison) -> list[Text]:
    """A note for each row that was measured while the machine was busy."""
    notes: list[Text] = []
    for row in compared.rows:
        running = compared.running.get(row.name)
        if running is None or not running.speed.busy:
            continue
        stage = "latency_refined" if row.metrics.costs.parts else "latency"
        notes.append(
            (
                Code(row.name),
                f": other processes slowed it down {running.speed.slowdown:.1f} times while it was measured. "
                f"{_NOT_CORRECTED if running.speed.gpu else _CORRECTED}; "
                f"`dvc repro -f -s {stage}@{row.name}`, then `dvc repro`, measure it again",
            )
        )
    return notes


def few_queries(compared: Comparison) -> list[Text]:
    """A note on the rows whose p95 is of few queries; none where there is no such row."""
    counts = {
        row.name: compared.running[row.name].speed.queries
        for row in compared.rows
        if row.name in compared.running and compared.running[row.name].speed.p95_is_rough
    }
    if not counts:
        return []
    few = _range(counts.values())
    return [
        (
            *names(counts),
            f": p95 is of {few} queries, and may well lie below the one that {FEWEST_QUERIES_FOR_P95} or "
            "more would show. Either there are no more, or a slow row had no time for more",
        )
    ]


def other_photos(compared: Comparison) -> list[Text]:
    """A note on the rows that were timed with fewer of the owner's files than another; none if equal."""
    uploads = {
        row.name: compared.running[row.name].speed.uploads
        for row in compared.rows
        if row.name in compared.running
    }
    most = max(uploads.values(), default=0)
    fewer = {row: count for row, count in uploads.items() if count < most}
    if not fewer:
        return []
    return [
        (
            *names(fewer),
            f": {_range(fewer.values())} of the queries' photos were timed as their owner's files, and "
            f"{most} in other rows. The rest were prepared images, which are decoded faster: p50, p95 and $ "
            "of these rows can't be compared with the others. Measure all rows where data/raw is complete",
        )
    ]


def _range(counts: Collection[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def legend(compared: Comparison) -> list[str]:
    """How to read the columns of speed and money, a line each."""
    if not compared.running:
        return [_NO_SPEED, _NO_QUERY]
    speed = next(iter(compared.running.values())).speed
    queries = _range([running.speed.queries for running in compared.running.values()])
    lines = [
        "images/s: prepared images decoded and embedded per second, in batches, by all threads: the median "
        "of some rounds, and the bounds of their middle half. Rows of one network share one figure.",
        "p50 ms, p95 ms: time of one query alone, by one thread, from the photo's file to its answers: "
        f"half of the queries, and 95% of them, take no longer. They are of {queries} queries of each row; "
        "each photo's time is the fastest of three.",
    ]
    if any(running.dollars for running in compared.running.values()):
        lines.append(
            f"$: by prices.yaml, on a machine that {speed.threads} threads keep busy all the time. "
            "$/M photos: to embed a million photos. $/M queries: to answer a million, from the photo's file "
            "on. $ index/month: memory for the index. $/month: a month's queries and the index."
        )
    if any(running.pareto_optimal is not None for running in compared.running.values()):
        lines.append(
            f"Pareto: no other row has a better {MAIN_METRIC} without being clearly dearer, or the same "
            f"one and is clearly cheaper, by $/month. Clearly: by a factor of {CHEAPER_RATIO} or more. "
            "The means decide; whether two rows can be told apart is in the table of quality."
        )
    return lines


def _month(compared: Comparison, row: ComparedRow) -> float | None:
    running = compared.running.get(row.name)
    return running.dollars.month if running and running.dollars else None


def _percent(share: float) -> str:
    return f"{share:.0%}"
