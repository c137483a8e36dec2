"""The map of the photos: who is on it, where, and what the report's page reads of it."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup import paths
from lineup.errors import UserError
from lineup.report import collection as report_collection
from lineup.report import map_data, projection
from lineup.settings import params
from lineup.storage import parquet, schemas
from stages import map as map_stage
from stages import report
from tests.support import collection, reported
from tests.support.collection import Image, clustered

ROW = "resnet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


IDS = st.sets(st.integers(0, 60).map(str), max_size=40)


@pytest.mark.slow
@settings(max_examples=200)
@given(IDS, IDS, st.integers(2, 30), st.integers(0, 3))
def test_a_sample_is_as_large_as_it_may_be_and_half_of_it_are_queries(
    queries: set[str], gallery: set[str], most: int, seed: int
) -> None:
    chosen = projection.sample(queries, gallery, most, seed)
    everyone = queries | gallery
    assert chosen <= everyone and len(chosen) == min(most, len(everyone))
    assert len(chosen & queries) >= min(len(queries), most // 2)
    assert len(chosen - queries) >= min(len(gallery - queries), most // 2)
    assert chosen == projection.sample(sorted(queries, reverse=True), sorted(gallery), most, seed)


@pytest.mark.slow
@settings(max_examples=200)
@given(IDS, IDS, st.integers(2, 30), st.sampled_from(["queries", "gallery"]))
def test_a_photo_that_is_added_takes_the_place_of_one_at_most(
    queries: set[str], gallery: set[str], most: int, side: str
) -> None:
    before = projection.sample(queries, gallery, most, 0)
    more = {"queries": queries, "gallery": gallery} | {
        side: {"queries": queries, "gallery": gallery}[side] | {"new"}
    }
    after = projection.sample(more["queries"], more["gallery"], most, 0)
    assert len(after - before) <= 1 and len(before - after) <= 1


def test_another_seed_takes_other_photos() -> None:
    gallery = [str(number) for number in range(100)]
    samples = [projection.sample([], gallery, 50, seed) for seed in (0, 1)]
    assert samples[0] != samples[1]


def test_a_photo_that_is_query_and_gallery_is_on_the_map_twice_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "MOST_PHOTOS", 10)
    photos = [
        map_stage.Photo(f"{i:02}", split) for i in range(30) for split in ("gallery", "query")[: 1 + i % 2]
    ]
    shown = map_stage.on_map(photos, seed=0)
    assert len({photo.image_id for photo in shown}) == 10
    assert shown == [photo for photo in photos if photo.image_id in {other.image_id for other in shown}]


def write(images: list[Image]) -> None:
    collection.write_params(collection.params(ROW, map={ROW: {"neighbours": 8}}))
    collection.write(images)
    collection.write_vectors(ROW, images)


@pytest.mark.slow
def test_what_is_alike_is_near_and_the_same_vectors_give_the_same_bytes(folder: Path) -> None:
    images = clustered(4, 6, 9, noise=0.3)
    twice = [
        Image(image.name, "gallery", image.label, image.vector) for image in images if image.split == "query"
    ][:1]
    images += twice
    write(images)
    map_stage.main(["--row", ROW])
    first = (paths.photo_map(ROW) / schemas.MAP_FILE).read_bytes()
    table = parquet.read_table(paths.photo_map(ROW) / schemas.MAP_FILE)
    assert table.schema == schemas.MAP
    rows = [(row["image_id"], row["split"]) for row in table.to_pylist()]
    assert rows == sorted((image.id, image.split) for image in images), "each row of the manifest has a place"
    place = {row["image_id"]: (row["x"], row["y"]) for row in table.to_pylist()}
    assert all(place[row["image_id"]] == (row["x"], row["y"]) for row in table.to_pylist()), (
        "one photo, one place"
    )

    label = {image.id: image.label for image in images}
    for one, spot in place.items():
        nearest = min(
            (other for other in place if other != one), key=lambda other: math.dist(spot, place[other])
        )
        assert label[nearest] == label[one]

    np.random.default_rng().standard_normal(10)
    (paths.photo_map(ROW) / schemas.MAP_FILE).unlink()
    map_stage.main(["--row", ROW])
    assert (paths.photo_map(ROW) / schemas.MAP_FILE).read_bytes() == first


def test_too_few_photos_are_refused(folder: Path) -> None:
    write(clustered(3, 1, 2, noise=0.3))
    with pytest.raises(
        UserError, match=r"map names resnet.* 10 test photos or more, and data/raw/test has 9.*remove map"
    ):
        map_stage.main(["--row", ROW])


def test_without_umap_the_command_to_install_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(clustered(4, 2, 3, noise=0.3))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "umap" else found(name, *rest)
    )
    with pytest.raises(UserError, match=r"pip install 'lineup\[map\]'"):
        map_stage.main(["--row", ROW])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"resnett": {}}, "map names 'resnett', which is not a row of models; did you mean 'resnet'?"),
        ({ROW: {"neighbors": 3}}, "map.resnet.neighbors is unknown; did you mean 'neighbours'?"),
        ({ROW: {"neighbours": 1}}, "map.resnet.neighbours is 1"),
    ],
)
def test_a_fault_of_the_section_is_named(folder: Path, section: object, message: str) -> None:
    collection.write_params(collection.params(ROW, map=section))
    with pytest.raises(UserError) as raised:
        params.load()
    assert message in str(raised.value)


def test_places_are_whole_numbers_of_the_same_shape() -> None:
    points = np.array([[-1, 10], [3, 10], [1, 12]], np.float32)
    assert map_data.scaled(points).tolist() == [[0, 0], [2000, 0], [1000, 1000]]
    assert map_data.scaled(np.array([[5, 5], [5, 5]], np.float32)).tolist() == [[0, 0], [0, 0]]


def test_the_script_has_the_numbers_of_the_collection_and_the_groups_of_slices(folder: Path) -> None:
    images = clustered(12, 2, 3, noise=0.3)
    collection.write_params(collection.params(ROW, map={ROW: {}}))
    collection.write(images)
    own = {image.name: "Windows" if number % 2 else "Apple" for number, image in enumerate(images)}
    collection.write_attributes(images, vendor=own, same=dict.fromkeys(own, "one"))
    left_out = min(image.id for image in images if image.split == "query")
    places = reported.write_map(ROW, [image for image in images if image.id != left_out])
    text = paths.report_map(ROW).read_text(encoding="ascii")
    data = json.loads(text.partition(" = ")[2].removesuffix(";\n"))
    shown = report_collection.read(report.read_manifest())
    assert data["collection"] == shown.key and len(data["queries"]["at"]) == 23
    low = np.min([*places.values()], axis=0)
    scale = data["side"] / np.ptp([*places.values()], axis=0).max()
    for side, known in (("queries", shown.queries), ("gallery", shown.gallery)):
        for number, x, y in zip(*(data[side][key] for key in ("at", "x", "y")), strict=True):
            assert [x, y] == pytest.approx((np.array(places[str(known.ids[number])]) - low) * scale, abs=0.6)
    (vendor,) = data["attributes"]  # all are "one" of the other, which tells nothing
    name = {image.id: own[image.name] for image in images}
    groups = [vendor["groups"][group] for group in vendor["of"]]
    assert groups == [name[str(shown.queries.ids[number])] for number in data["queries"]["at"]]

    collection.write_manifest([*images[1:], Image("another", "query", "label 0", [0.0] * 16)])
    with pytest.raises(UserError, match=r"data/maps/resnet/photos.parquet: is of other photos .*dvc repro"):
        report.main(["--map", "--row", ROW])


@pytest.mark.slow
def test_without_a_map_the_report_has_nothing_of_it(folder: Path) -> None:
    text = reported.run({ROW: clustered(3, 2, 3, noise=0.3)}).read_text(encoding="utf-8")
    assert "map.js" not in text and 'id="map' not in text and 'href="#map"' not in text
    assert "query-region" not in text and '"maps":[]' in text
