"""--threshold of search, serve and submit: a score, or the FPIR that a row's own score was chosen for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lineup import paths
from lineup.commands import group
from lineup.errors import UserError
from lineup.evaluation import thresholds
from lineup.evaluation.thresholds import Threshold
from lineup.serving import api, gallery_photos, row_search
from lineup.serving.api import SearchResponse
from lineup.settings import params
from lineup.storage import files, rankings
from tests.support import collection
from tests.support.collection import Image, clustered

SCORE = {"cutoffs": [1], "fpir": [0.1, 0.5, 0.001]}


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images() -> list[Image]:
    """Forty labels with two queries each, in a row named a."""
    images = clustered(40, 2, 3, noise=1.0)
    collection.run({"a": images}, score=SCORE)
    return images


def own_score(fpir: float) -> float:
    points = files.read_json(paths.row_metrics("a"))["identification"]["operating_points"]
    return next(point["threshold"] for point in points if point["target"] == fpir)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (None, None),
        ("0.53", Threshold(score=0.53)),
        ("-25.5", Threshold(score=-25.5)),
        ("fpir=0.01", Threshold(fpir=0.01)),
        ("fpir=1e-3", Threshold(fpir=0.001)),
    ],
)
def test_a_threshold_is_a_score_or_a_rate(option: str | None, expected: Threshold | None) -> None:
    assert thresholds.parse(option) == expected


@pytest.mark.parametrize(
    "option", ["", "high", "nan", "inf", "fpir=", "fpir=0", "fpir=1", "fpir=1%", "FPIR=0.1"]
)
def test_anything_else_is_refused(option: str) -> None:
    with pytest.raises(UserError, match=r"--threshold .*: is neither a score nor an FPIR; use a number such"):
        thresholds.parse(option)


def test_a_rate_stands_for_the_rows_own_score(images: list[Image]) -> None:
    assert Threshold(fpir=0.1).of_row("a") == own_score(0.1) > own_score(0.5)
    assert Threshold(score=0.25).of_row("a") == 0.25


def test_a_rate_that_the_row_has_no_score_for_is_refused(images: list[Image]) -> None:
    file = "metrics/rows/a.json: "
    with pytest.raises(
        UserError, match=rf"{file}has no .* FPIR of 0.2 \(known: fpir=0.1, fpir=0.5\); add it"
    ):
        Threshold(fpir=0.2).of_row("a")
    with pytest.raises(UserError, match=rf"{file}80 queries without a match are too few for .* 0.001; use a"):
        Threshold(fpir=0.001).of_row("a")
    stored = files.read_json(paths.row_metrics("a"))
    stored["identification"]["operating_points"][0]["threshold"] = None
    files.write_json(paths.row_metrics("a"), stored)
    with pytest.raises(UserError, match=rf"{file}no score of this row is high enough for an FPIR of 0.1"):
        Threshold(fpir=0.1).of_row("a")


def test_without_labels_only_a_score_can_be_used() -> None:
    unlabelled = [Image(i.name, i.split, None, i.vector) for i in clustered(3, 2, 2, noise=0.1)]
    collection.run({"a": unlabelled})
    with pytest.raises(UserError, match=r"nothing could be scored, so the row has no threshold; use a score"):
        Threshold(fpir=0.01).of_row("a")


def submitted(*arguments: str) -> dict[str, list[str]]:
    group.run(["submit", "--row", "a", "-k", "3", "--group", "us", "--names", "path", *arguments])
    return json.loads(paths.submission("a").read_text(encoding="utf-8"))["images"]


@pytest.mark.slow
def test_a_submission_leaves_out_what_is_below_the_threshold(images: list[Image]) -> None:
    least, ranking = own_score(0.1), rankings.read_ranking(paths.ranking("a"))
    every, cut = submitted(), submitted("--threshold", "fpir=0.1")
    by_id = {image.id: image for image in images}
    lengths = set()
    for query_id, scores in zip(ranking.query_ids.tolist(), ranking.scores, strict=True):
        name = f"{by_id[query_id].name}.jpg"
        expected = every[name][: int((scores[:3] >= least).sum())]
        assert cut[name] == expected
        lengths.add(len(expected))
    assert {0, 3} <= lengths


def searched(photo: str, threshold: Threshold | None) -> SearchResponse:
    row = row_search.open_row("a", params.load(), gallery_photos.read("pixels"))
    return api.search(row, api.gallery_query(photo), 5, threshold)


@pytest.mark.slow
def test_the_page_shows_no_match_below_the_threshold_but_says_how_near_the_best_is(
    images: list[Image],
) -> None:
    photo = next(image.id for image in images if image.split == "gallery")
    plain = searched(photo, None)
    assert plain.threshold is None and plain.best_score == plain.results[0].score
    middle = plain.results[2].score
    some = searched(photo, Threshold(score=middle))
    assert some.results == plain.results[:3] and some.threshold == middle
    none = searched(photo, Threshold(score=1.5))
    assert none.results == [] and none.best_score == plain.best_score


@pytest.mark.slow
def test_a_threshold_chosen_on_photos_is_refused_for_texts(images: list[Image]) -> None:
    row = row_search.open_row("a", params.load(), gallery_photos.read("pixels"))
    with pytest.raises(
        UserError, match=r"fpir=0.1: was chosen on photos, and texts have other scores; leave"
    ):
        api.search(row, api.text_query("a slice of pizza"), 5, Threshold(fpir=0.1))
    Threshold(score=0.2).check_text()
