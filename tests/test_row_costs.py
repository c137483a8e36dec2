"""What a refinement costs: every row that it's made of counts, and each only once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lineup import paths
from lineup.costs import row_costs
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import ApproximateIndex, RowCosts
from lineup.evaluation.row_metrics import OwnPicture, RowMetrics
from lineup.settings.refinement import KReciprocal, QueryExpansion, ReciprocalRankFusion
from lineup.settings.refinement_method import MethodSettings
from lineup.storage import files

A: dict[str, Any] = {
    "images_per_second": 100.0,
    "dim": 512,
    "index_mb": 2.0,
    "query_ms": 1.0,
    "parameters": 1000,
    "gflops": 0.5,
    "train_minutes": 3.0,
}
B: dict[str, Any] = {
    "images_per_second": 50.0,
    "dim": 128,
    "index_mb": 0.5,
    "query_ms": 0.5,
    "parameters": 200,
    "gflops": 0.1,
    "train_minutes": 0.0,
}
SHARED: dict[str, Any] = {
    "device": "CPU",
    "engine": "torch",
    "precision": "float32",
    "image_size": 64,
    "peak_gpu_memory_mb": None,
    "random": False,
    "search_device": "CPU",
    "search_threads": 2,
}


@pytest.fixture(autouse=True)
def rows(empty_folder: Path) -> None:
    scored("a", RowCosts(**SHARED, **A, peak_memory_mb=900.0, licence="MIT"))
    scored("b", RowCosts(**SHARED, **B, peak_memory_mb=700.0, licence="Apache-2.0"))


def scored(row: str, costs: RowCosts) -> None:
    """Writes the row's metrics as `score` does; nothing but its costs matters here."""
    counts = (
        "queries",
        "scored",
        "without_label",
        "without_answer",
        "labels",
        "clusters",
        "gallery",
        "depth",
    )
    row_metrics.write(
        RowMetrics(
            row=row,
            relevance="labels",
            unscored=None,
            **dict.fromkeys(counts, 1),
            exclude="pixels",
            own_picture=OwnPicture(same_bytes=0, other_bytes=0),
            judgements=None,
            enlarged=None,
            quality={},
            identification=None,
            costs=costs,
        )
    )


def refined(row: str, first: str, second: str, **measured: Any) -> RowCosts:
    """Writes what `refine` measures, and then the row's costs."""
    files.write_json(
        paths.costs("refine", row), {"row": row, "query_ms": 0.25, "device": "CPU", "threads": 2, **measured}
    )
    costs = row_costs.refinement_costs(row, first, second)
    scored(row, costs)
    return costs


def test_a_fusion_embeds_every_photo_with_both_models() -> None:
    costs = refined("fused", "a", "b")
    assert costs.images_per_second == pytest.approx(1 / (1 / 100 + 1 / 50), abs=0.01)
    assert (costs.dim, costs.index_mb, costs.query_ms, costs.parameters) == (640, 2.5, 1.75, 1200)
    assert (
        costs.train_minutes == 3.0 and costs.peak_memory_mb == 900.0 and costs.licence == "MIT + Apache-2.0"
    )


def test_a_method_of_one_row_costs_that_row_and_itself() -> None:
    costs = refined("expanded", "a", "a")
    assert (costs.images_per_second, costs.dim, costs.query_ms, costs.licence) == (
        100.0,
        512,
        1.25,
        "MIT",
    )


def test_a_chain_counts_what_it_shares_once() -> None:
    refined("expanded", "a", "a")
    costs = refined("chain", "expanded", "a")
    assert costs.images_per_second == 100.0 and costs.dim == 512 and costs.query_ms == 1.5


def test_a_whitening_is_searched_instead_of_its_source() -> None:
    costs = refined("white", "a", "a", builds_index=True, dim=64, index_mb=0.25, note="PCA")
    assert (costs.dim, costs.index_mb, costs.query_ms, costs.train_note) == (
        64,
        0.25,
        0.25,
        "PCA",
    )
    assert costs.images_per_second == 100.0 and costs.parameters == 1000


def test_what_is_unknown_of_one_part_is_unknown_of_the_whole() -> None:
    unknown = {"gflops": None, "images_per_second": None, "device": "GPU"}
    scored("b", RowCosts(**{**SHARED, **B, **unknown}))
    costs = refined("fused", "a", "b")
    assert [costs.gflops, costs.licence, costs.images_per_second, costs.device] == [None] * 4
    assert costs.peak_memory_mb == 900.0


ANN: dict[str, Any] = {
    "index": "hnsw",
    "storage": "float32",
    "parameters": {"efSearch": 64},
    "recall_target": 0.9,
    "ann_recall_tuned": 0.92,
}


def test_an_approximate_index_is_described_and_an_exact_one_is_not() -> None:
    read = {"row": "m", "fingerprint": "f", "images": "i"}
    index, measured = (
        {**read, "dim": 8, "index_mb": 1.0},
        {**read, "device": "CPU", "threads": 2, "query_ms": 0.1},
    )
    for stage, costs in (
        ("embed", read),
        ("train", {"row": "m", "minutes": 0.0}),
        ("index", index),
        ("retrieve", measured),
    ):
        files.write_json(paths.costs(stage, "m"), costs)  # type: ignore[arg-type]
    assert row_costs.model_costs("m").search is None
    files.write_json(paths.costs("index", "m"), {**index, "search": ANN})
    files.write_json(paths.costs("retrieve", "m"), {**measured, "ann_recall": {"1": 1.0, "10": 0.93}})
    assert row_costs.model_costs("m").search == ApproximateIndex(**ANN, ann_recall={"1": 1.0, "10": 0.93})


def test_an_approximate_search_replaces_the_exact_one() -> None:
    measured = {"dim": 512, "index_mb": 2.5, "query_ms": 0.1, "search": ANN, "ann_recall": {"10": 0.93}}
    costs = refined("ann", "a", "a", builds_index=True, **measured)
    assert (costs.dim, costs.index_mb, costs.query_ms) == (512, 2.5, 0.1)
    assert costs.images_per_second == 100.0 and costs.parameters == 1000 and costs.train_minutes == 3.0
    assert costs.search == ApproximateIndex(**ANN, ann_recall={"10": 0.93})
    # Fused with the row it is made of: one embedding, both searches.
    both = refined("both", "ann", "a", query_ms=0.25)
    assert (
        both.images_per_second == 100.0
        and both.query_ms == pytest.approx(0.1 + 1.0 + 0.25)
        and both.search is None
    )


@pytest.mark.parametrize(("first", "second"), [("a", "white"), ("white", "a")])
def test_a_row_fused_with_its_own_whitening_is_searched_twice_whichever_comes_first(
    first: str, second: str
) -> None:
    refined("white", "a", "a", builds_index=True, dim=64, index_mb=0.25)
    costs = refined("fused", first, second, method="reciprocal_rank_fusion")
    assert (costs.dim, costs.index_mb, costs.query_ms) == (512 + 64, 2.25, 1.0 + 0.25 + 0.25)
    assert costs.images_per_second == 100.0 and costs.parameters == 1000


@pytest.mark.parametrize(
    ("method", "query_ms"),
    [(QueryExpansion, 1.25), (KReciprocal, 1.25), (ReciprocalRankFusion, 1.75)],
)
def test_a_ranking_that_is_not_used_takes_no_time(method: type[MethodSettings], query_ms: float) -> None:
    costs = refined("made", "a", "b", searches_second=method.searches_second)
    assert costs.query_ms == query_ms and costs.dim == 640


def test_the_way_into_a_whitened_space_is_paid_for_even_if_it_is_not_searched() -> None:
    refined("white", "a", "a", builds_index=True, dim=64, index_mb=0.25, query_ms=0.75, transform_ms=0.5)
    # The search of b and the projection, without the search of the whitened gallery.
    assert refined("reranked", "b", "white", searches_second=False).query_ms == 0.5 + 0.5 + 0.25
    # A whitening that is searched by another index: only the projection is left of it.
    costs = refined("ann", "white", "white", builds_index=True, dim=64, index_mb=0.5, query_ms=0.125)
    assert (costs.query_ms, costs.dim, costs.index_mb) == (0.5 + 0.125, 64, 0.5)
    # A row that shares the whitening pays its search once.
    assert refined("both", "white", "reranked").query_ms == 0.75 + 0.5 + 0.25 + 0.25
