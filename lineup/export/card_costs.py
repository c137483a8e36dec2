"""What the model card of an exported row says of its speed and its dollars."""

from __future__ import annotations

from collections.abc import Mapping

from lineup.costs import latency, money, speeds
from lineup.costs.running_costs import Dollars, RowSpeed
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import RowCosts
from lineup.export.search_plan import SearchPlan
from lineup.settings import prices
from lineup.settings.prices import Prices
from lineup.summary import rich_text

NOT_MEASURED = "not measured"

# A name and a value of the card's table.
Line = tuple[str, str]


def lines(plan: SearchPlan) -> list[Line]:
    """The card's table of costs: what was measured of the row, by itself, and what follows from prices."""
    rows = row_metrics.read_all({plan.row, *plan.models})
    measured = speeds.alone(latency.read_all(rows), rows)
    metrics = speeds.with_speeds(rows, measured)[plan.row]
    speed, listed = measured.get(plan.row), prices.load()
    dollars = money.dollars(metrics, speed, listed) if speed else None
    return [
        *_query(speed),
        *_dollars(dollars, listed, speed),
        *_network_and_index(metrics.costs),
    ]


def _query(speed: RowSpeed | None) -> list[Line]:
    """p50 and p95, from the photo's file to its answers."""
    name = "ms from a photo's file to its ten answers, {}"
    if speed is None:
        return [(name.format(each), NOT_MEASURED) for each in ("p50", "p95")]
    of = f"of {speed.queries:,} queries, one at a time by one thread"
    rough = ", too few for more than a rough figure" if speed.p95_is_rough else ""
    return [
        (name.format("p50"), f"{speed.p50.total:.1f} ({of})"),
        (name.format("p95"), f"{speed.p95.total:.1f} ({of}{rough})"),
        ("queries a second of all threads together", f"{speed.per_second:,.0f} ({speed.threads} threads)"),
    ]


def _dollars(dollars: Dollars | None, listed: Prices, speed: RowSpeed | None) -> list[Line]:
    """Dollars, and the prices that they follow from."""
    names = ("$ to embed a million photos", "$ to answer a million queries", "$ a month to hold the index")
    if speed is None or dollars is None:
        why = NOT_MEASURED if speed is None else "not known: prices.yaml has no machine_hour"
        return [(name, why) for name in names]
    values = (dollars.million_photos, dollars.million_queries, dollars.index_month)
    hour = listed.hour(speed.threads, speed.gpu)
    assert hour is not None, "the dollars follow from it"
    return [
        *((name, _shown(value)) for name, value in zip(names, values, strict=True)),
        (
            "prices",
            f"${hour:g} an hour of the machine, which is busy all the time; "
            f"${listed.memory_gb_month:g} a month for a GB of memory",
        ),
    ]


def _shown(dollars: float | None) -> str:
    """To the cent, or to two digits below a dollar."""
    if dollars is None:
        return NOT_MEASURED
    if dollars >= 1 or dollars == 0:
        return f"{dollars:,.2f}"
    return f"{dollars:#.2g}" if dollars >= 0.001 else "less than 0.001"


def _network_and_index(costs: RowCosts) -> list[Line]:
    """What was measured of the network and the index, on which machine; what is unknown is left out."""
    listed: Mapping[str, tuple[float | None, str]] = {
        "images embedded per second": (costs.images_per_second, ",.0f"),
        "ms to search for one query, without embedding it": (costs.query_ms, ".2f"),
        "index in MB": (costs.index_mb, ",.1f"),
        "parameters in millions": (costs.parameters and costs.parameters / 1e6, ",.1f"),
        "GFLOPs for one image": (costs.gflops, ".2f"),
        "peak memory while embedding in MB": (costs.peak_memory_mb, ",.0f"),
    }
    shown = [(name, format(value, style)) for name, (value, style) in listed.items() if value is not None]
    machine = ", ".join(filter(None, (costs.device, costs.engine, costs.precision)))
    return [*shown, ("measured on", rich_text.escaped(machine))] if machine else shown
