"""Speeds that were measured at different times, made comparable."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lineup import machine, paths
from lineup.costs import latency, speeds
from lineup.costs.latency import Latency
from lineup.costs.running_costs import RowSpeed
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import ApproximateIndex, PartCosts
from lineup.evaluation.row_metrics import RowMetrics
from lineup.machine import Load
from lineup.storage import files
from stages import compare
from tests.support import measured
from tests.support.collection import run
from tests.test_compare import cells, change_costs, page, rows

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def metrics(empty_folder: object) -> RowMetrics:
    """Of a row with an exact index."""
    run(rows(a=1.0))
    return row_metrics.read("a")


def comparable(metrics: RowMetrics, *measurements: Latency) -> dict[str, RowSpeed]:
    by_row = {each.row: each for each in measurements}
    return speeds.comparable(by_row, dict.fromkeys(by_row, metrics))


@pytest.mark.parametrize(
    ("own", "others", "slowdown"),
    [
        (0.9, 0.05, 0.95 / 0.9),
        (0.25, 0.75, 4.0),
        (0.25, 0.25, 1.0),  # half of the cores were free
        (0.0, 1.0, 1.0),  # nothing is known of a process that did not compute
    ],
)
def test_others_slow_down_where_no_core_is_free(own: float, others: float, slowdown: float) -> None:
    assert Load(own, others).slowdown == pytest.approx(slowdown)


@pytest.mark.slow
def test_the_load_of_this_process_is_what_it_computes() -> None:
    meter, start = machine.LoadMeter(), time.process_time()
    while time.process_time() - start < 0.2:
        sum(range(1000))
    load = meter.load()
    assert 0 < load.own <= 1.05 / machine.threads() and 0 <= load.others <= 1.5


def test_rows_of_one_network_share_the_median_of_what_was_measured_of_each(metrics: RowMetrics) -> None:
    compared = comparable(
        metrics,
        measured.latency("a", images_per_second=(100.0, 110.0), p50_ms=4.0, per_second=(300.0,)),
        measured.latency("b", images_per_second=(120.0, 90.0, 130.0), p50_ms=6.0, per_second=(500.0,)),
        measured.latency("c", images_per_second=(50.0,), network="another", p50_ms=9.0),
    )
    assert compared["a"].embedding == compared["b"].embedding
    spread = compared["a"].embedding
    assert spread and (spread.median, spread.low, spread.high) == (110.0, 100.0, 120.0)
    assert compared["a"].p50.total == compared["b"].p50.total == 5.0
    assert compared["b"].per_second == 400.0
    assert (
        compared["c"].embedding and compared["c"].embedding.median == 50.0 and compared["c"].p50.total == 9.0
    )


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["engine", "precision", "device"])
def test_another_engine_precision_or_device_is_another_speed(changed: str, metrics: RowMetrics) -> None:
    other: dict[str, Any] = {changed: "another"}
    compared = comparable(
        metrics,
        measured.latency("a", images_per_second=(100.0,)),
        measured.latency("b", images_per_second=(300.0,), **other),
    )
    assert compared["a"].embedding and compared["a"].embedding.median == 100.0


def test_prepared_photos_share_no_time_with_the_files_of_their_owner(metrics: RowMetrics) -> None:
    compared = comparable(
        metrics,
        measured.latency("a", images_per_second=(100.0,), p50_ms=9.0),
        measured.latency("b", images_per_second=(300.0,), p50_ms=4.0, uploads=0),
    )
    assert (compared["a"].p50.total, compared["b"].p50.total) == (9.0, 4.0)
    assert compared["a"].embedding == compared["b"].embedding, "which reads prepared photos in any case"


def test_what_others_took_is_added_on_a_processor_and_not_on_a_gpu(metrics: RowMetrics) -> None:
    busy: dict[str, Any] = {"images_per_second": (100.0,), "per_second": (80.0,), "slowdown": 3.0}
    compared = comparable(
        metrics,
        measured.latency("a", **busy),
        measured.latency("b", **busy, gpu=True, device="Some GPU"),
    )
    assert compared["a"].embedding and compared["a"].embedding.median == 300.0
    assert compared["a"].per_second == 240.0 and compared["a"].busy and compared["a"].p50.total == 4.0
    assert compared["b"].embedding and compared["b"].embedding.median == 100.0
    assert compared["b"].per_second == 80.0
    assert compared["b"].device == "Some GPU" and compared["a"].device == "Some CPU, 2 threads"


def test_an_approximate_index_has_times_of_its_own(metrics: RowMetrics) -> None:
    index = ApproximateIndex(index="hnsw", storage="float32", parameters={}, ann_recall={"10": 1.0})
    approximate = metrics.model_copy(update={"costs": metrics.costs.model_copy(update={"search": index})})
    both = {
        row: measured.latency(row, images_per_second=(1.0,), p50_ms=ms)
        for row, ms in (("a", 2.0), ("b", 4.0))
    }
    compared = speeds.comparable(both, {"a": metrics, "b": approximate})
    assert (compared["a"].p50.total, compared["b"].p50.total) == (2.0, 4.0)


def part(images_per_second: float | None) -> PartCosts:
    return PartCosts(
        images_per_second=images_per_second,
        dim=1,
        index_mb=1.0,
        query_ms=1.0,
        parameters=1,
        gflops=1.0,
        train_minutes=0.0,
    )


def test_a_refinement_embeds_as_fast_as_its_models_one_after_the_other(metrics: RowMetrics) -> None:
    """100 and 300 images per second: 1 / (1/100 + 1/300) = 75. Its own part embeds nothing."""
    parts = {"a": part(7.0), "b": part(9.0), "both": part(0)}
    fused = metrics.model_copy(update={"costs": metrics.costs.model_copy(update={"parts": parts})})
    known = {"a": metrics, "b": metrics, "both": fused, "unmeasured": metrics}
    compared = speeds.comparable(
        {
            "a": measured.latency("a", images_per_second=(100.0,)),
            "b": measured.latency("b", images_per_second=(300.0,), network="another"),
            "both": measured.latency("both", p50_ms=8.0),
        },
        known,
    )
    changed = speeds.with_speeds(known, compared)
    assert changed["both"].costs.images_per_second == 75.0
    assert (
        changed["a"].costs.images_per_second == 100.0 and changed["a"].costs.device == "Some CPU, 2 threads"
    )
    assert changed["unmeasured"] == metrics
    assert compared["both"].embedding is None and compared["both"].p50.total == 8.0


@pytest.mark.slow
def test_the_page_shows_what_was_measured_and_who_was_disturbed() -> None:
    run(rows(one=1.5, other=1.5, bad=5.0))
    first, second, _ = cells("Quality")
    measured.write(first, images_per_second=(100.0, 120.0, 140.0), p50_ms=4.5, p95_ms=6.0, slowdown=1.0)
    measured.write(second, images_per_second=(40.0,), network="another", slowdown=2.0)
    compare.main([])
    cost = cells("Cost")
    assert cost[first]["images/s"] == "120.0 (110-130)"
    assert (cost[first]["p50 ms"], cost[first]["p95 ms"]) == ("4.5", "6.0")
    assert cost[second]["images/s"] == "80.0 (80-80)"
    assert f"`{second}`: other processes slowed it down 2.0 times" in page()
    assert f"`{first}`: other processes" not in page()
    assert f"Of these, `{first}` embeds fastest, 120 images/s." in page()
    measured.write(second, images_per_second=(40.0, 90.0, 150.0), network="another")
    compare.main([])
    assert "embeds fastest" not in page(), "120 and 90 images/s, but the spreads overlap"


@pytest.mark.slow
def test_the_page_says_how_many_queries_a_p95_is_of_and_whose_photos_they_were() -> None:
    run(rows(slow=1.5, fast=1.5))
    measured.write("fast", images_per_second=(100.0,))
    measured.write("slow", images_per_second=(2.0,), network="another")
    compare.main([])
    assert "They are of 200 queries of each row" in page()
    assert "p95 is of" not in page() and "prepared images, which are decoded faster" not in page()
    few = measured.queries(400.0, 500.0, (2.5,), (1.0,)).model_copy(update={"queries": 58})
    measured.write("slow", images_per_second=(2.0,), network="another", alone=few, uploads=0)
    compare.main([])
    assert "They are of 58 to 200 queries of each row" in page()
    assert "`slow`: p95 is of 58 queries, and may well lie below the one that 59 or more would show" in page()
    assert "`slow`: 0 of the queries' photos were timed as their owner's files, and 200 in other" in page()
    assert "`fast`: p95" not in page() and "`fast`: 0 of" not in page()


def test_what_was_measured_of_another_row_is_refused() -> None:
    run(rows(a=1.0))
    files.write_json(paths.latency("a"), measured.latency("b").model_dump())
    with pytest.raises(UserError, match=r"metrics/latency/a.json: isn't what .* `dvc repro -f -s latency@a`"):
        compare.main([])
    files.write_json(paths.costs("latency", "a"), {"row": "a"})
    with pytest.raises(UserError, match=r"data/costs/a/latency.json: isn't what"):
        latency.publish("a")


def test_score_publishes_what_was_measured() -> None:
    latency.publish("a")
    assert not paths.latency("a").exists(), "a row that was not measured"
    written = measured.latency("a", images_per_second=(1.0,))
    latency.write(written)
    latency.publish("a")
    assert latency.read_all(["a", "b"]) == {"a": written}


@pytest.mark.slow
def test_costs_without_a_measurement_are_shown_as_before() -> None:
    run(rows(a=1.0))
    change_costs("a", images_per_second=123.0)
    compare.main([])
    assert cells("Cost")["a"]["images/s"] == "123.0" and "query ms" in cells("Cost")["a"]
    assert "## Money" not in page()
