"""index and retrieve, from embeddings to rankings: what is left out of a ranking, how deep it is, what is
refused.
"""

from __future__ import annotations

from typing import Any

import faiss
import pytest

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files, rankings
from stages import index, retrieve
from tests.support.collection import Image, clustered, params, search, write, write_embeddings, write_params

pytestmark = pytest.mark.usefixtures("empty_folder")


def prepare(images: list[Image], qrels: list[tuple[str, str, int]] | None = None, **settings: Any) -> None:
    write_params(params("row", **settings))
    write(images, qrels or [])
    write_embeddings("row", images)


def found(ranking: rankings.Ranking, images: list[Image], query: str) -> list[str]:
    """The names in a query's ranking."""
    names = {image.id: image.name for image in images}
    ids = [names[i] for i in ranking.query_ids]
    return [names[str(ranking.gallery_ids[p])] for p in ranking.positions[ids.index(query)] if p >= 0]


LINE = [
    Image("q", "query", "a", [0, 1]),
    Image("near", "gallery", "a", [1, 1]),
    Image("middle", "gallery", "b", [2, 1]),
    Image("far", "gallery", "a", [5, 1]),
]


def test_ranks_by_distance() -> None:
    prepare(LINE, metric="l2")
    ranking = search("row")
    assert found(ranking, LINE, "q") == ["near", "middle", "far"]
    assert ranking.scores.tolist() == [[-1, -4, -25]]


def test_a_query_never_finds_itself_but_finds_what_equals_it() -> None:
    """By id, not by place: an equal vector of another image stays."""
    images = [*LINE, Image("q", "gallery", "a", [0, 1]), Image("twin", "gallery", "a", [0, 1])]
    prepare(images, metric="l2")
    assert found(search("row"), images, "q") == ["twin", "near", "middle", "far"]


def test_junk_is_taken_out_and_the_depth_is_kept() -> None:
    images = [
        Image("q", "query", None, [0, 1]),
        *(Image(f"g{i:03}", "gallery", None, [i + 1, 1]) for i in range(60)),
    ]
    junk = [("q", f"g{i:03}", -1) for i in range(0, 50, 2)]
    prepare(images, [*junk, ("q", "g001", 1)], metric="l2", retrieve={"depth": 20}, score={"cutoffs": [1]})
    names = found(search("row"), images, "q")
    assert names == [f"g{i:03}" for i in range(1, 41, 2)]


@pytest.mark.parametrize(
    ("settings", "depth"),
    [
        (
            {"retrieve": {"depth": 3}, "score": {"cutoffs": [1]}},
            7,
        ),  # map_at_r needs R = 6 ranks, and one may be wrong behind them
        ({"retrieve": {"depth": 3}, "score": {"cutoffs": [1, 9]}}, 9),
        ({"retrieve": {"depth": 12}, "score": {"cutoffs": [1]}}, 12),
        ({"retrieve": {"depth": 500}, "score": {"cutoffs": [1, 1000]}}, 24),  # all there is
    ],
)
def test_rankings_are_deep_enough_for_every_metric(settings: dict[str, Any], depth: int) -> None:
    prepare(clustered(4, 2, 6, noise=1), **settings)
    assert search("row").positions.shape == (8, depth)
    assert files.read_json(paths.costs("retrieve", "row"))["k"] == depth


def test_judgements_decide_the_depth_where_there_are_any() -> None:
    images = clustered(4, 2, 6, noise=1)
    gallery = [image.name for image in images if image.split == "gallery"]
    prepare(images, [("0/0", name, 1) for name in gallery[:9]], retrieve={"depth": 2}, score={"cutoffs": [1]})
    assert search("row").positions.shape == (8, 10)


def test_the_same_embeddings_give_the_same_bytes() -> None:
    prepare(clustered(5, 2, 4, noise=1))
    search("row")
    before = paths.index("row").read_bytes(), paths.ranking("row").read_bytes()
    search("row")
    assert (paths.index("row").read_bytes(), paths.ranking("row").read_bytes()) == before


@pytest.mark.slow
@pytest.mark.parametrize("search_settings", [{"index": "flat"}, {"index": "flat", "storage": "int8"}])
def test_a_gallery_in_parts_is_ranked_as_in_one_piece(search_settings: dict[str, Any]) -> None:
    """Neither the index of float32 vectors nor any ranking differs, junk and ties included."""
    images = [*clustered(5, 2, 9, noise=1), *(Image(f"t{i}", "gallery", "t", [1] * 16) for i in range(20))]
    junk = [("0/0", f"t{i}", -1) for i in range(0, 20, 3)]
    written = []
    for part_rows in (None, 65, 64, 7, 1):
        prepare(images, [*junk, ("0/0", "0/3", 1)])
        content = params("row")
        content["models"]["row"]["search"] = {"metric": "cosine", **search_settings, "part_rows": part_rows}
        write_params(content)
        ranking = search("row")
        assert (ranking.positions >= 0).sum() == 10 * 65 - 7
        written.append((paths.ranking("row").read_bytes(), paths.index("row").read_bytes()))
        costs = files.read_json(paths.costs("retrieve", "row"))
        assert costs["query_ms"] > 0 and costs["device"] and costs["peak_memory_mb"] > 10
    assert len({ranking for ranking, _ in written}) == 1
    assert len({index for _, index in written}) == (1 if "storage" not in search_settings else 4)
    setup = files.read_json(paths.costs("index", "row")).get("search", {"parameters": {"parts": 65}})
    assert setup["parameters"] == {"parts": 65}


def test_costs_say_what_was_measured() -> None:
    prepare(clustered(5, 2, 4, noise=1))
    search("row")
    costs = files.read_json(paths.costs("index", "row"))
    assert (costs["vectors"], costs["dim"]) == (20, 16)
    assert costs["index_mb"] == pytest.approx(paths.index("row").stat().st_size / 1e6, abs=1e-3)
    assert faiss.read_index(str(paths.index("row"))).ntotal == 20
    costs = files.read_json(paths.costs("retrieve", "row"))
    assert (
        costs["query_ms"] > 0 and costs["device"] and costs["threads"] >= 1 and costs["peak_memory_mb"] > 10
    )


@pytest.mark.parametrize(("split", "stage"), [("gallery", index), ("query", retrieve)])
def test_an_empty_split_is_told(split: str, stage: object) -> None:
    images = [image for image in LINE if image.split != split]
    prepare(images)
    if stage is retrieve:
        index.main(["--row", "row"])
    with pytest.raises(UserError, match=f"data/raw/test/{split}"):
        stage.main(["--row", "row"])  # type: ignore[attr-defined]


def test_embeddings_of_other_images_are_refused() -> None:
    prepare(LINE)
    search("row")
    write([*LINE, Image("new", "gallery", "a", [9, 9])])
    with pytest.raises(
        UserError, match=r"data/embeddings/row: holds other images than data/prepared/test/manifest.parquet"
    ):
        retrieve.main(["--row", "row"])


def test_an_index_of_another_metric_is_refused() -> None:
    prepare(LINE, metric="l2")
    index.main(["--row", "row"])
    write_params(params("row", metric="cosine"))
    with pytest.raises(UserError, match=r"data/indexes/row.faiss: was built for another metric than cosine"):
        retrieve.main(["--row", "row"])


def test_missing_files_are_told() -> None:
    write_params(params("row"))
    with pytest.raises(UserError, match="data/embeddings/row: does not exist; run `dvc repro`"):
        index.main(["--row", "row"])
    with pytest.raises(UserError, match=r"data/prepared/test/manifest.parquet: does not exist"):
        retrieve.main(["--row", "row"])


def test_a_zero_vector_in_the_gallery_is_named() -> None:
    images = [*LINE, Image("broken", "gallery", "a", [0, 0])]
    prepare(images)
    with pytest.raises(
        UserError, match=f"data/embeddings/row: the vector of image {images[-1].id} is all zero"
    ):
        index.main(["--row", "row"])
