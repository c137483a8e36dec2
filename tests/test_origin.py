"""Whose results a file holds: what a shared cache or a stopped `dvc repro` leaves is told by the first that
reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lineup import paths
from lineup.commands import group, serve
from lineup.errors import UserError
from lineup.serving import gallery_photos, row_pool, row_search
from lineup.settings import params
from lineup.storage import files
from stages import index, near_copies, refine, report, retrieve, score
from tests.support import collection, reported
from tests.support.collection import Image, clustered

ROWS = {
    "expanded": {"from": "a", "with": "a", "method": "query_expansion", "n": 2},
    "white": {"from": "a", "with": "a", "method": "whitening", "dim": 4},
    "fused": {"from": "a", "with": "b", "method": "reciprocal_rank_fusion"},
}
Run = Callable[[], object]


@pytest.fixture(autouse=True)
def project(empty_folder: Path) -> list[Image]:
    """Two models and three refinements, searched and scored."""
    images = clustered(5, 2, 4, noise=1)
    collection.run(
        {"a": images, "b": clustered(5, 2, 4, noise=2)}, refinements={}, near_copies={"rows": ["a"]}
    )
    collection.write_params(collection.params("a", "b", refinements=ROWS, near_copies={"rows": ["a"]}))
    for row in ROWS:
        refine.main(["--row", row])
        score.main(["--row", row])
    return images


def replaced(path: Path, other: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copyfile(other, path)


def opened(row: str) -> row_search.Row:
    return row_search.open_row(row, params.load(), gallery_photos.read("pixels"))


def stage(main: Any, row: str) -> Run:
    return lambda: main(["--row", row])


READERS = {
    "index": stage(index.main, "a"),
    "retrieve": stage(retrieve.main, "a"),
    "expanded": stage(refine.main, "expanded"),
    "white": stage(refine.main, "white"),
    "search": lambda: opened("a"),
    "search of a refinement": lambda: opened("fused"),
    "serve": lambda: serve.choose(params.load(), "a"),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_vectors_that_say_they_are_another_rows_are_refused_by_whoever_reads_them(reader: str) -> None:
    READERS[reader]()
    replaced(paths.embeddings("a"), paths.embeddings("b"))
    with pytest.raises(
        UserError,
        match=r"embeddings/a/all.parquet: says that it holds vectors of row 'b', not of 'a'; .*-f -s embed@a`",
    ):
        READERS[reader]()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["test", "train"])
def test_match_refuses_vectors_of_another_row(project: list[Image], part: paths.Part) -> None:
    reported.write_near_copies("a", project)
    collection.write_vectors("b", [Image(f"{i}", "train", None, [1, i]) for i in range(3)], "train")
    replaced(paths.embeddings("a", part), paths.embeddings("b", part))
    stage_of = {"test": "embed@a", "train": "embed_train@a"}[part]
    with pytest.raises(
        UserError,
        match=f"says that it holds vectors of row 'b', not of 'a'; run `dvc repro -f -s {stage_of}`",
    ):
        near_copies.main(["--row", "a"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader",
    [
        stage(score.main, "a"),
        stage(report.main, "a"),
        lambda: group.run(["submit", "--row", "a", "--group", "us", "--names", "path"]),
        stage(refine.main, "fused"),
        stage(refine.main, "expanded"),
    ],
)
def test_a_ranking_of_another_row_is_refused(reader: Run) -> None:
    replaced(paths.ranking("a"), paths.ranking("b"))
    with pytest.raises(
        UserError,
        match=r"data/rankings/a.parquet: says that it is the ranking of row 'b', not of 'a'; .*retrieve@a`",
    ):
        reader()


@pytest.mark.slow
def test_figures_of_other_vectors_than_embed_wrote_are_not_scored() -> None:
    """The row's own, but of an earlier encoder: the name alone doesn't tell."""
    measured = files.read_json(paths.costs("embed", "a"))
    files.write_json(paths.costs("embed", "a"), {**measured, "fingerprint": "f" * 64})
    with pytest.raises(
        UserError,
        match=r"data/embeddings/a: holds other vectors than data/costs/a/embed.json was measured on; .*-f -s embed@a`",
    ):
        score.main(["--row", "a"])
    score.main(["--row", "b"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "row"), [("train", "a"), ("embed", "a"), ("index", "a"), ("retrieve", "a"), ("refine", "fused")]
)
def test_costs_of_another_row_are_not_scored(stage: Any, row: str) -> None:
    replaced(paths.costs(stage, row), paths.costs(stage, "b" if row == "a" else "white"))
    with pytest.raises(
        UserError, match=rf"data/costs/{row}/{stage}.json: says that it is of row .* -f -s {stage}@{row}`"
    ):
        score.main(["--row", row])


@pytest.mark.slow
def test_an_index_of_other_vectors_is_not_scored() -> None:
    built = files.read_json(paths.costs("index", "a"))
    files.write_json(paths.costs("index", "a"), {**built, "images": "f" * 64})
    with pytest.raises(
        UserError,
        match=r"data/indexes/a.faiss: was built of other vectors than data/embeddings/a holds; .*index@a`",
    ):
        score.main(["--row", "a"])


@pytest.mark.slow
def test_a_refinement_of_other_vectors_than_were_scored_is_not_scored() -> None:
    scored = files.read_json(paths.row_metrics("a"))
    scored["costs"]["vectors_fingerprint"] = "f" * 64
    files.write_json(paths.row_metrics("a"), scored)
    with pytest.raises(
        UserError,
        match=r"rankings/expanded.parquet: was made of other vectors than a was scored by; .*refine@expanded`",
    ):
        score.main(["--row", "expanded"])


# A `dvc repro` that was stopped halfway


def renewed(images: list[Image]) -> list[Image]:
    """One gallery photo replaced by another: as many as before."""
    first = next(image for image in images if image.split == "gallery")
    return [
        Image("new", "gallery", first.label, first.vector) if image is first else image for image in images
    ]


@pytest.mark.slow
def test_an_index_of_an_earlier_gallery_is_told_although_it_has_as_many_images(project: list[Image]) -> None:
    images = renewed(project)
    collection.write(images)
    collection.write_embeddings("a", images)
    with pytest.raises(
        UserError,
        match=r"data/indexes/a.faiss: the gallery has changed since it was built; run `dvc repro` to go on",
    ):
        opened("a")


@pytest.mark.slow
def test_an_index_of_fewer_images_is_told_with_both_numbers(project: list[Image]) -> None:
    collection.write([*project, Image("new", "gallery", None, [1])])
    told = r"^data/indexes/a.faiss: the gallery has changed since it was built, from 20 images to 21; run `dvc repro` to go on$"
    with pytest.raises(UserError, match=told):
        opened("a")


@pytest.mark.slow
def test_an_encoder_that_has_been_trained_again_is_told(project: list[Image]) -> None:
    files.write_json(paths.model("a") / "encoder.json", {"weights_sha256": "f" * 64})
    with pytest.raises(
        UserError,
        match=r"data/models/a: has changed since it embedded data/embeddings/a; run `dvc repro` to go on",
    ):
        opened("a")


@pytest.mark.slow
def test_a_whitening_of_an_earlier_gallery_is_told(project: list[Image]) -> None:
    images = renewed(project)
    collection.write(images)
    collection.write_embeddings("a", images)
    index.main(["--row", "a"])
    opened("expanded")
    with pytest.raises(UserError, match=r"data/embeddings/white: holds other images than"):
        opened("white")
    with pytest.raises(UserError, match=r"data/embeddings/white: holds other images than"):
        serve.choose(params.load(), "white")


@pytest.mark.slow
def test_the_page_offers_only_what_is_of_the_gallery_as_it_is(project: list[Image]) -> None:
    settings = params.load()
    assert all(row.ready and not row.fault for row in row_pool.row_infos(settings))
    images = renewed(project)
    collection.write(images)
    collection.write_embeddings("a", images)
    index.main(["--row", "a"])
    offered = {row.name: row.fault for row in row_pool.row_infos(settings)}
    assert [name for name, fault in offered.items() if not fault] == ["a", "expanded"]
    assert (
        offered["b"].startswith("data/embeddings/b: holds other images") and offered["fused"] == offered["b"]
    )
    assert serve.choose(settings, None) == "a"
    with pytest.raises(UserError, match="data/embeddings/b: holds other images"):
        serve.choose(settings, "b")
    shutil.rmtree(paths.embeddings("a"))
    with pytest.raises(
        UserError, match=r"no row is computed here; .*\(of a, data/embeddings/a: does not exist"
    ):
        serve.choose(settings, None)
