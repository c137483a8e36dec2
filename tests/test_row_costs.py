"""What a refinement costs: every row that it's made of counts, and each only once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.lib import paths, row_costs, tables

A = {"images_per_second": 100.0, "dim": 512, "index_mb": 2.0, "query_ms": 1.0, "parameters": 1000, "gflops": 0.5, "train_minutes": 3.0}
B = {"images_per_second": 50.0, "dim": 128, "index_mb": 0.5, "query_ms": 0.5, "parameters": 200, "gflops": 0.1, "train_minutes": 0.0}
SHARED = {"device": "CPU", "engine": "torch", "precision": "float32", "image_size": 64, "peak_gpu_memory_mb": None, "random": False}


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scored("a", {**SHARED, **A, "peak_memory_mb": 900.0, "licence": "MIT"})
    scored("b", {**SHARED, **B, "peak_memory_mb": 700.0, "licence": "Apache-2.0"})


def scored(row: str, costs: dict[str, Any]) -> None:
    tables.write_json(paths.row_metrics(row), {"costs": costs})


def refined(row: str, first: str, second: str, **measured: Any) -> dict[str, Any]:
    tables.write_json(paths.costs("refine", row), {"row": row, "query_ms": 0.25, "device": "CPU", "threads": 2, **measured})
    costs = row_costs.of_refinement(row, first, second)
    scored(row, costs)
    return costs


def test_a_fusion_embeds_every_photo_with_both_models() -> None:
    costs = refined("fused", "a", "b")
    assert costs["images_per_second"] == pytest.approx(1 / (1 / 100 + 1 / 50), abs=0.01)
    assert (costs["dim"], costs["index_mb"], costs["query_ms"], costs["parameters"]) == (640, 2.5, 1.75, 1200)
    assert costs["train_minutes"] == 3.0 and costs["peak_memory_mb"] == 900.0 and costs["licence"] == "MIT + Apache-2.0"


def test_a_method_of_one_row_costs_that_row_and_itself() -> None:
    costs = refined("expanded", "a", "a")
    assert (costs["images_per_second"], costs["dim"], costs["query_ms"], costs["licence"]) == (100.0, 512, 1.25, "MIT")


def test_a_chain_counts_what_it_shares_once() -> None:
    refined("expanded", "a", "a")
    costs = refined("chain", "expanded", "a")
    assert costs["images_per_second"] == 100.0 and costs["dim"] == 512 and costs["query_ms"] == 1.5


def test_a_whitening_is_searched_instead_of_its_source() -> None:
    costs = refined("white", "a", "a", dim=64, index_mb=0.25, note="PCA")
    assert (costs["dim"], costs["index_mb"], costs["query_ms"], costs["train_note"]) == (64, 0.25, 0.25, "PCA")
    assert costs["images_per_second"] == 100.0 and costs["parameters"] == 1000


def test_what_one_part_does_not_tell_is_not_told() -> None:
    scored("b", {**SHARED, **B, "gflops": None, "licence": None, "images_per_second": None, "device": "GPU", "peak_memory_mb": None})
    costs = refined("fused", "a", "b")
    assert [costs[key] for key in ("gflops", "licence", "images_per_second", "device")] == [None] * 4
    assert costs["peak_memory_mb"] == 900.0


ANN = {"index": "hnsw", "storage": "float32", "parameters": {"efSearch": 64}, "recall_target": 0.9, "ann_recall_tuned": 0.92}


def test_an_approximate_index_is_told_and_an_exact_one_is_not() -> None:
    read = {"row": "m", "fingerprint": "f", "images": "i"}
    index, measured = {**read, "dim": 8, "index_mb": 1.0}, {**read, "device": "CPU", "threads": 2, "query_ms": 0.1}
    for stage, costs in (("embed", read), ("train", {"row": "m", "minutes": 0.0}), ("index", index), ("retrieve", measured)):
        tables.write_json(paths.costs(stage, "m"), costs)  # type: ignore[arg-type]
    assert "search" not in row_costs.of_model("m")
    tables.write_json(paths.costs("index", "m"), {**index, "search": ANN})
    tables.write_json(paths.costs("retrieve", "m"), {**measured, "ann_recall": {"1": 1.0, "10": 0.93}})
    assert row_costs.of_model("m")["search"] == {**ANN, "ann_recall": {"1": 1.0, "10": 0.93}}


def test_an_approximate_search_replaces_the_exact_one() -> None:
    costs = refined("ann", "a", "a", dim=512, index_mb=2.5, query_ms=0.1, search=ANN, ann_recall={"10": 0.93})
    assert (costs["dim"], costs["index_mb"], costs["query_ms"]) == (512, 2.5, 0.1)
    assert costs["images_per_second"] == 100.0 and costs["parameters"] == 1000 and costs["train_minutes"] == 3.0
    assert costs["search"] == {**ANN, "ann_recall": {"10": 0.93}}
    # Fused with the row it is made of: one embedding, both searches.
    both = refined("both", "ann", "a", query_ms=0.25)
    assert both["images_per_second"] == 100.0 and both["query_ms"] == pytest.approx(0.1 + 1.0 + 0.25) and "search" not in both


@pytest.mark.parametrize(("first", "second"), [("a", "white"), ("white", "a")])
def test_a_row_fused_with_its_own_whitening_is_searched_twice_whichever_comes_first(first: str, second: str) -> None:
    refined("white", "a", "a", dim=64, index_mb=0.25)
    costs = refined("fused", first, second, method="reciprocal_rank_fusion")
    assert (costs["dim"], costs["index_mb"], costs["query_ms"]) == (512 + 64, 2.25, 1.0 + 0.25 + 0.25)
    assert costs["images_per_second"] == 100.0 and costs["parameters"] == 1000


@pytest.mark.parametrize(("method", "query_ms"), [("query_expansion", 1.25), ("k_reciprocal", 1.25), ("reciprocal_rank_fusion", 1.75)])
def test_a_ranking_that_is_not_used_takes_no_time(method: str, query_ms: float) -> None:
    costs = refined("made", "a", "b", method=method)
    assert costs["query_ms"] == query_ms and costs["dim"] == 640
