"""Collections so small that something is empty: every light stage ends in its results, or in one sentence
that helps.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lineup import paths
from lineup.commands import group, serve
from lineup.errors import UserError
from lineup.serving import api, gallery_photos, row_search
from lineup.settings import params
from lineup.storage import files
from stages import compare, index, near_copies, refine, report, retrieve, score
from tests.support import collection, reported
from tests.support.collection import Image

Q = Image("q", "query", "a", [1.0, 0.5, 0.0])
ITSELF = Image("q", "gallery", "a", [1.0, 0.5, 0.0])
COPY = Image("copy", "gallery", "a", [1.0, 0.5, 0.0], shows="q")
RIGHT, WRONG = (
    Image("right", "gallery", "a", [1.0, 0.4, 0.1]),
    Image("wrong", "gallery", "b", [0.0, 0.3, 1.0]),
)
UNKNOWN = Image("unknown", "gallery", None, [0.2, 1.0, 0.3])
ASKED = Image("asked", "query", None, [0.9, 0.1, 0.2])
SHAPES: dict[str, tuple[list[Image], list[tuple[str, str, int]]]] = {
    "only the query itself": ([Q, ITSELF], []),
    "only a copy of the query": ([Q, COPY], []),
    "nothing left for one query": ([Q, ASKED, ITSELF], []),
    "one photo, right": ([Q, RIGHT], []),
    "one photo, wrong": ([Q, WRONG], []),
    "one photo, no label": ([ASKED, UNKNOWN], []),
    "one query without a label": ([ASKED, RIGHT, WRONG], []),
    "one label": ([Q, RIGHT, COPY, ITSELF, Image("another", "query", "a", [1.0, 0.3, 0.2])], []),
    "all junk": ([Q, RIGHT, WRONG], [("q", "right", -1), ("q", "wrong", -1)]),
    "all wrong": ([Q, RIGHT, WRONG], [("q", "right", 0), ("q", "wrong", 0)]),
    "the query itself and junk": ([Q, ITSELF, WRONG], [("q", "q", 1), ("q", "wrong", -1)]),
    "judgements of photos that are gone": ([Q, RIGHT], [("q", "gone", 1)]),
}
METHODS: dict[str, dict[str, Any]] = {
    "reciprocal_rank_fusion": {},
    "score_fusion": {},
    "query_expansion": {},
    "k_reciprocal": {},
    "whitening": {"dim": 1},
    "approximate": {"index": "hnsw"},
    "truncate": {"dim": 1},
    "quantise": {"to": "binary"},
}
REFINEMENTS = {
    name: {"from": "a", "with": "a", "method": name, **settings} for name, settings in METHODS.items()
}


pytestmark = pytest.mark.usefixtures("empty_folder")


def write(images: Sequence[Image], qrels: Sequence[tuple[str, str, int]], search: dict[str, Any]) -> None:
    content = collection.params(
        "a", relevance={"exclude": "pixels"}, refinements={}, near_copies={"rows": ["a"]}
    )
    content["models"]["a"]["search"] = {"metric": "cosine", **search}
    collection.write_params(content)
    gone = Image("gone", "gallery", None, [0])
    collection.write([*images, gone] if any("gone" in pair for pair in qrels) else images, qrels)
    collection.write_manifest(images)
    collection.write_embeddings("a", images)
    reported.write_pictures(images)
    files.write_text(paths.LEAKS, "kind,path_a,path_b,across\n")


def told(run: Any, *arguments: str) -> str:
    """The one sentence of a stage that can't go on; empty where it ended well."""
    try:
        run(list(arguments))
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [{"index": "flat"}, {"index": "hnsw"}, {"index": "ivf"}, {"index": "flat", "storage": "int8"}],
    ids=str,
)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_stage_ends_in_results(shape: str, search: dict[str, Any]) -> None:
    images, qrels = SHAPES[shape]
    write(images, qrels, search)
    for stage in (index, retrieve, score):
        stage.main(["--row", "a"])
    compare.main([])
    report.main(["--row", "a"])
    report.main(["--thumbnails"])
    report.main([])
    gallery = [image for image in images if image.split == "gallery"]
    with paths.row_queries("a").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    row = files.read_json(paths.row_metrics("a"))
    assert len(lines) == row["queries"] == sum(image.split == "query" for image in images) and row[
        "gallery"
    ] == len(gallery)
    assert f"{row['queries']} quer" in paths.COMPARISON.read_text(encoding="utf-8")
    fault = told(group.run, "submit", "--row", "a", "-k", str(len(gallery)), "--group", "us")
    assert not fault or ("ends after" in fault and "don't count" in fault)
    opened = row_search.open_row("a", params.load(), gallery_photos.read("pixels"))
    own = opened.photos.self_matches(images[0].id, collection.pixels_id(images[0]))
    found = opened.nearest(lambda _: np.array([images[0].vector], np.float32), 5, own)
    assert {result.photo.image_id for result in found} == {image.id for image in gallery} - {
        opened.photos.photo(p).image_id for p in own
    }
    assert serve.choose(params.load(), None) == "a" and len(api.starters(opened.photos, 12)) == len(gallery)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_refinement_ends_in_results_or_a_sentence(shape: str, method: str) -> None:
    images, qrels = SHAPES[shape]
    write(images, qrels, {"index": "flat"})
    collection.search("a")
    score.main(["--row", "a"])
    collection.write_params(collection.params("a", refinements={method: REFINEMENTS[method]}))
    fault = told(refine.main, "--row", method)
    gallery = {tuple(image.vector) for image in images if image.split == "gallery"}
    wrong = any(vector[0] == 0 for vector in gallery)  # nothing is left of it in one dimension
    expected = {
        "whitening": "vary in 0 only; there is nothing to whiten" if len(gallery) == 1 else "",
        "truncate": "set dim to more" if wrong else "",
    }.get(method, "")
    assert bool(fault) == bool(expected) and expected in fault
    if fault:
        return
    score.main(["--row", method])
    compare.main([])
    report.main(["--row", method])
    report.main(["--row", "a"])
    report.main([])
    opened = row_search.open_row(method, params.load(), gallery_photos.read("pixels"))
    opened.nearest(lambda _: np.array([[1.0, 0.5, 0.0]], np.float32), 5, opened.photos.self_matches("", ""))


@pytest.mark.parametrize("trained", [0, 1])
@pytest.mark.parametrize("shape", ["only the query itself", "one photo, right"])
def test_match_ends_in_results(shape: str, trained: int) -> None:
    images, qrels = SHAPES[shape]
    write(images, qrels, {"index": "flat"})
    training = [Image("trained", "train", "a", [1.0, 0.5, 0.1])][:trained]
    collection.write_manifest(training, "train")
    reported.write_pictures(training, "train")
    collection.write_vectors("a", training, "train", dim=3)
    near_copies.main(["--row", "a"])
    assert (paths.near_copies("a") / "pairs.csv").exists()


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_a_project_without_a_split_is_told_by_every_stage(split: str) -> None:
    images = [image for image in [Q, RIGHT, WRONG] if image.split != split]
    write([Q, RIGHT, WRONG], [], {"index": "flat"})
    collection.search("a")
    write(images, [], {"index": "flat"})
    for stage in (retrieve, score, report):
        assert f"data/raw/test/{split}: holds no image that can be read" in told(stage.main, "--row", "a")
    if split == "gallery":
        assert "data/raw/test/gallery" in told(index.main, "--row", "a")
        assert "run `dvc repro`" in told(group.run, "serve")
