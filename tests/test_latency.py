"""latency@row: how long a query takes by part, and how fast a row embeds, on real networks."""

from __future__ import annotations

import functools
import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from lineup import machine, paths
from lineup.costs.latency import Latency
from lineup.embedding import query_network
from lineup.serving import latency_figures, query_photos, query_times, ready_row, row_search
from lineup.serving.query_times import Pass, QueryTime, QueryTimer
from lineup.serving.row_search import ModelSearch
from lineup.settings import params as params_module
from lineup.settings.sections import Embed
from lineup.storage import files
from stages import latency, refine
from tests.support.project import read_params, write_params

pytestmark = pytest.mark.slow

FUSED = {"from": "mobilenet_v2", "with": "raw_pixels_l2", "method": "reciprocal_rank_fusion"}
EXPANDED = {"from": "fused", "with": "mobilenet_v2", "method": "query_expansion", "n": 2}


@pytest.fixture
def folder(finished_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished_copy)
    monkeypatch.setattr(latency, "PHOTOS", 12)
    monkeypatch.setattr(latency, "PASSES", 2)
    monkeypatch.setattr(latency, "ROUNDS_PER_PASS", 1)
    return finished_copy


def measure(row: str) -> Latency:
    latency.main(["--row", row])
    return Latency.model_validate(files.read_json(paths.costs("latency", row)))


def test_a_row_is_measured_with_the_photos_as_their_owner_has_them(folder: Path) -> None:
    measured = measure("mobilenet_v2")
    assert measured.uploads == measured.alone.queries == measured.together.queries == 12
    assert measured.engine == files.read_json(paths.costs("embed", "mobilenet_v2"))["engine"]
    assert measured.network == "torchvision mobilenet_v2, 37/32 px, 1280"
    assert measured.threads == machine.threads() and not measured.gpu
    for times in (measured.first, measured.alone.p50, measured.alone.p95, measured.together.p50):
        assert min(times.decode, times.embed, times.search) > 0 and times.refine == 0
    assert measured.alone.p50.total <= measured.alone.p95.total
    assert len(measured.alone.per_second) == len(measured.together.slowdown) == 2
    assert measured.embedding and len(measured.embedding.images_per_second) == 2
    assert min(measured.embedding.images_per_second) > 0 and min(measured.embedding.slowdown) >= 1


def test_refinements_are_measured_with_all_that_they_are_made_of(folder: Path) -> None:
    shutil.rmtree("data/raw")  # as in a clone
    write_params(folder, {**read_params(folder), "refinements": {"fused": FUSED, "expanded": EXPANDED}})
    for row in ("fused", "expanded"):
        refine.main(["--row", row])
    measured = measure("expanded")
    assert measured.uploads == 0 and measured.alone.queries == 12
    assert measured.network is None and measured.embedding is None
    assert min(measured.alone.p50.embed, measured.alone.p50.search, measured.alone.p50.refine) > 0


def test_the_parts_of_a_query_and_its_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is where it belongs: a model that two sources share is embedded once, and searched twice."""
    write_params(folder, {**read_params(folder), "refinements": {"fused": FUSED, "expanded": EXPANDED}})
    refine.main(["--row", "fused"])
    refine.main(["--row", "expanded"])
    params = params_module.load()
    row = ready_row.open_row("expanded", params, 1)
    calls: dict[str, int] = {"network": 0, "search": 0}

    def slow(part: str, function: Any) -> Any:
        @functools.wraps(function)
        def slowed(*arguments: Any) -> Any:
            calls[part] += 1
            time.sleep(0.03)
            return function(*arguments)

        return slowed

    models = {
        name: row_search.open_row(name, params, row.photos).search
        for name in ("mobilenet_v2", "raw_pixels_l2")
    }
    searches = {}
    for name, model in models.items():
        assert isinstance(model, ModelSearch)
        network = replace(model.encoder.network(), forward=slow("network", model.encoder.network().forward))
        searches[name] = ModelSearch(replace(model.encoder, network=lambda network=network: network))
    expanded = row.search
    assert isinstance(expanded, row_search.RefinedSearch)
    fused = replace(expanded.first, first=searches["mobilenet_v2"], second=searches["raw_pixels_l2"])  # type: ignore[arg-type]
    watched = replace(row, search=replace(expanded, first=fused, second=searches["mobilenet_v2"]))
    monkeypatch.setattr(ModelSearch, "hits", slow("search", ModelSearch.hits))
    photos = query_photos.read(12)
    timed = QueryTimer(watched, params.preprocess.shorter_side_px).time(photos.contents[0])
    assert calls == {"network": 2, "search": 3}
    assert timed.embed >= 0.06 and timed.search >= 0.09
    assert timed.total == pytest.approx(sum(timed))
    assert 0 < timed.decode < timed.total - 0.15 and 0 < timed.refine < timed.total - 0.15


def test_a_photo_that_cannot_be_decoded_is_left_out(folder: Path) -> None:
    params = params_module.load()
    timer = QueryTimer(ready_row.open_row("mobilenet_v2", params, 1), params.preprocess.shorter_side_px)
    good = query_photos.read(12).contents[0]
    timed = query_times.run([timer], [good, b"no photo", good], most_seconds=60)
    assert sorted(timed.times) == [0, 2] and timed.slowdown >= 1
    assert len(query_times.run([timer], [good] * 30, most_seconds=0).times) == query_times.FEWEST_QUERIES


def test_figures_of_hand_worked_passes() -> None:
    """Three photos in two passes, the second of which did not reach the last; seconds."""
    first = {0: QueryTime(1, 1, 1, 0), 1: QueryTime(2, 2, 1, 0), 2: QueryTime(4, 3, 2, 0)}
    second = {0: QueryTime(2, 2, 2, 0), 1: QueryTime(1, 1, 2, 0)}
    figures = latency_figures.queries([Pass(first, 1.0), Pass(second, 1.25)], threads=2)
    assert latency_figures.fastest([Pass(first, 1.0), Pass(second, 1.0)]) == [first[0], second[1], first[2]]
    assert figures.queries == 3 and figures.slowdown == (1.0, 1.25)
    assert figures.p50.model_dump() == {
        "decode": 1000,
        "embed": 1000,
        "search": 2000,
        "refine": 0,
        "total": 4000,
    }
    assert figures.p95.total == pytest.approx(4000 + 0.9 * 5000)
    assert figures.per_second == (round(2 / (17 / 3), 2), 0.4)


def test_queries_are_embedded_by_the_engine_of_the_gallery(folder: Path) -> None:
    embed = Embed(engine="auto")
    engine = query_network.embedding_engine("mobilenet_v2", embed)
    costs = files.read_json(paths.costs("embed", "mobilenet_v2"))
    assert engine and engine.described == costs["engine"]
    paths.costs("embed", "mobilenet_v2").unlink()
    other = f"openvino {version('openvino')}"
    files.write_json(paths.costs("embed", "mobilenet_v2"), {**costs, "engine": other})
    assert query_network.load("mobilenet_v2", embed, 1).engine.described == other
    files.write_json(paths.costs("embed", "mobilenet_v2"), {**costs, "engine": "tensorrt 10"})
    assert query_network.embedding_engine("mobilenet_v2", embed) is None
    assert query_network.load("mobilenet_v2", embed, 1).engine.name == "torch"
