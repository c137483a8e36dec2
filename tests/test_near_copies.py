"""embed_train and near_copies: test photos that copy a training photo, though neither their bytes nor their pixels
are the same.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance, ImageOps

from lineup import paths
from lineup.errors import UserError
from lineup.search.near_copies import SAME_PICTURE, SIDE, agreement, nearest
from lineup.settings import params
from lineup.storage import embeddings, parquet, schemas
from stages import embed, embed_train, fetch, near_copies, preprocess, train
from tests.support.photographs import photograph
from tests.support.project import ROOT, demo_params, tree, write_params

ROW = "mobilenet_v2"
ODD = "<script>window.attacked = 1<∕script>, \"x\" & 'y'"


def vectors(folder: Path, rows: np.ndarray, rows_per_shard: int) -> list[str]:
    """A folder of embeddings; the ids, spread over the shards."""
    ids = [f"{(number * 61) % 256:02x}{number:062x}" for number in range(len(rows))]
    order = np.argsort(ids)
    columns = {
        "image_id": [ids[i] for i in order],
        "split": ["train"] * len(ids),
        "prepared_id": [None] * len(ids),
    }
    batch = embeddings.embeddings_batch(pa.RecordBatch.from_pydict(columns), rows[order].astype(np.float32))
    parquet.write_shards(
        folder,
        schemas.embeddings_schema(rows.shape[1]),
        [batch],
        len(ids),
        rows_per_shard,
        {"model": folder.name},
    )
    return [*map(str, columns["image_id"])]


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_shard", [1, 7, 1_000])
def test_the_nearest_training_photo_by_a_naive_loop(tmp_path: Path, rows_per_shard: int) -> None:
    random = np.random.default_rng(0)
    training, testing = random.standard_normal((40, 6)), random.standard_normal((25, 6))
    training[31] = training[7] * 3  # the same direction: of equal ones the first by id
    testing[4] = training[7]
    vectors(tmp_path / "train", training, rows_per_shard)
    vectors(tmp_path / "test", testing, 10)
    scores, places = nearest(tmp_path / "test", tmp_path / "train")
    a, b = (
        pa.concat_tables([parquet.read_table(file) for file in parquet.shards(tmp_path / part)])
        for part in ("test", "train")
    )
    for number, query in enumerate(a.column("embedding").to_pylist()):
        cosines = [
            np.dot(query, other) / np.linalg.norm(query) / np.linalg.norm(other)
            for other in b.column("embedding").to_pylist()
        ]
        assert scores[number] == pytest.approx(max(cosines), abs=1e-6)
        assert places[number] == next(i for i, cosine in enumerate(cosines) if cosine > max(cosines) - 1e-7)


def test_without_training_photos_none_is_near(tmp_path: Path) -> None:
    vectors(tmp_path / "train", np.empty((0, 6)), 10)
    vectors(tmp_path / "test", np.ones((3, 6)), 10)
    scores, places = nearest(tmp_path / "test", tmp_path / "train")
    assert scores.tolist() == [-np.inf] * 3 and places.tolist() == [-1] * 3


def copy(photo: Image.Image, how: str) -> Image.Image:
    width, height = photo.size
    if how == "resized":
        return photo.resize((width * 2 // 3, height // 2))
    if how == "cropped":
        return photo.crop((round(width * 0.2), 0, width, round(height * 0.8)))
    if how == "mirrored":
        return ImageOps.mirror(photo)
    if how == "brighter":
        return ImageEnhance.Brightness(photo).enhance(1.15)
    buffer = io.BytesIO()
    photo.save(buffer, how, quality=40)
    return Image.open(buffer).convert("RGB")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["resized", "cropped", "mirrored", "brighter", "JPEG", "WEBP"])
def test_the_pixels_of_a_copy_agree_and_those_of_another_photo_do_not(how: str) -> None:
    photos = [Image.open(io.BytesIO(photograph(seed, 320, 240))).convert("RGB") for seed in range(6)]
    for number, photo in enumerate(photos):
        values = [agreement(copy(photo, how), other) for other in photos]
        assert values[number] >= SAME_PICTURE
        assert max(values[:number] + values[number + 1 :]) < 0.9


def test_agreement_of_a_hand_worked_case() -> None:
    side = SIDE
    ramp = np.tile(np.linspace(0, 255, side), (side, 1)).astype(np.uint8)
    left, flat = Image.fromarray(ramp).convert("RGB"), Image.new("RGB", (side, side), "red")
    assert agreement(left, left) == pytest.approx(1)
    assert agreement(left, ImageOps.mirror(left)) == pytest.approx(1)  # though plainly they oppose each other
    assert agreement(left, left.rotate(90)) == pytest.approx(0, abs=1e-9)
    assert agreement(left, flat) == agreement(flat, flat) == 0


# The stages, from files to the list


def save(path: str, photo: Image.Image, **options: Any) -> None:
    file = Path("data/raw") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    photo.save(file, **options)


def opened(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(photograph(seed, 320, 240))).convert("RGB")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training photos, 12 test photos, and four that copy a training photo in one way each.

    Preprocess and fetch are done.
    """
    folder = tmp_path_factory.mktemp("match") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, {**demo_params(ROW), "near_copies": {"rows": [ROW]}})
        for seed in range(24):
            save(f"train/{ODD if seed == 3 else seed % 6}/{seed}.jpg", opened(seed), quality=90)
        for seed in range(100, 112):
            save(f"test/{'query' if seed % 2 else 'gallery'}/{seed % 6}/{seed}.jpg", opened(seed), quality=90)
        save("test/query/3/<b>resized.jpg", copy(opened(3), "resized"), quality=70)
        save("test/gallery/4/cropped.png", opened(4).crop((20, 10, 310, 230)))
        save("test/gallery/5/webp.webp", opened(5), quality=60)
        decoded = Image.open("data/raw/train/0/6.jpg").convert("RGB")
        save("test/gallery/0/same pixels.png", decoded)
        shutil.copy("data/raw/train/1/7.jpg", "data/raw/test/query/1/same bytes.jpg")
        preprocess.main()
        for stage in (fetch, train, embed):
            stage.main(["--row", ROW])
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "project"))
    return tmp_path / "project"


def listed() -> dict[str, Any]:
    text = (paths.near_copies(ROW) / "pairs.js").read_text(encoding="ascii")
    return json.loads(text.partition(" = ")[2].rstrip(";\n"))


def run() -> None:
    embed_train.main(["--row", ROW])
    near_copies.main(["--row", ROW])


@pytest.mark.slow
def test_planted_copies_are_on_top_and_leaks_csv_misses_them(project: Path) -> None:
    run()
    data = listed()
    top = {pair["test"]["paths"][0]: pair for pair in data["pairs"][:3]}
    assert {name: pair["train"]["paths"][0].split("/")[-1] for name, pair in top.items()} == {
        "test/query/3/<b>resized.jpg": "3.jpg",
        "test/gallery/4/cropped.png": "4.jpg",
        "test/gallery/5/webp.webp": "5.jpg",
    }
    assert all(pair["agreement"] >= data["same"] for pair in top.values())
    assert all(pair["agreement"] < data["same"] for pair in data["pairs"][3:])
    cosines = [pair["cosine"] for pair in data["pairs"]]
    assert cosines == sorted(cosines, reverse=True) and data["typical"] < cosines[2]
    # Each test photo once, but for those that leaks.csv has, which in turn misses what is on top here.
    leaks = paths.LEAKS.read_text(encoding="utf-8")
    assert data["train"] == 24 and len(data["pairs"]) == 12 + 3
    assert "same pixels.png" in leaks and "same bytes.jpg" in leaks
    assert not any("same" in pair["test"]["paths"][0] for pair in data["pairs"])
    assert not any(
        kind in line
        for name in top
        for line in leaks.split("\n")
        if name in line
        for kind in ("same_bytes", "same_pixels")
    )


@pytest.mark.slow
def test_the_list_is_a_table_too_and_every_training_photo_has_a_thumbnail(project: Path) -> None:
    run()
    with (paths.near_copies(ROW) / "pairs.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["test"], row["train"], float(row["cosine"])) for row in rows] == [
        (pair["test"]["paths"][0], pair["train"]["paths"][0], pair["cosine"]) for pair in listed()["pairs"]
    ]
    assert ODD in {row["train_label"] for row in rows}
    thumbnails = {file.stem for file in paths.near_copies(ROW).glob("*.jpg")}
    assert thumbnails == {pair["train"]["id"] for pair in listed()["pairs"]}
    assert "<" not in (paths.near_copies(ROW) / "pairs.js").read_text(encoding="ascii")


@pytest.mark.slow
def test_new_training_photos_cost_their_own_forward_passes_and_history_no_byte(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert (
        "24 training photos, 23 of them computed now" in capsys.readouterr().err
    )  # embed has computed one: the test has its bytes
    for seed in range(200, 203):
        save(f"train/5/{seed}.jpg", opened(seed), quality=90)
    preprocess.main()
    run()
    assert "27 training photos, 3 of them computed now" in capsys.readouterr().err
    grown = tree(paths.near_copies(ROW)), tree(paths.embeddings(ROW, "train"))
    shutil.rmtree(paths.CACHE / "vectors")
    run()
    assert (tree(paths.near_copies(ROW)), tree(paths.embeddings(ROW, "train"))) == grown


@pytest.mark.slow
def test_without_a_train_folder_the_stages_say_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data/raw/train")
    preprocess.main()
    run()
    assert capsys.readouterr().err.count("data/raw/train holds no") == 2
    assert listed() == {"train": 0, "typical": None, "pairs": [], "same": SAME_PICTURE}
    assert sorted(file.name for file in paths.near_copies(ROW).iterdir()) == ["pairs.csv", "pairs.js"]


@pytest.mark.slow
def test_vectors_of_other_photos_are_refused(project: Path) -> None:
    embed_train.main(["--row", ROW])
    save("train/0/new.jpg", opened(300))
    preprocess.main()
    with pytest.raises(
        UserError,
        match=r"data/embeddings_train/mobilenet_v2: holds other images than data/prepared/train/manifest",
    ):
        near_copies.main(["--row", ROW])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["mobilenet"],
            "near_copies.rows names 'mobilenet', which is not a row of models; did you mean 'mobilenet_v2'?",
        ),
        ([ROW, ROW], "near_copies.rows names 'mobilenet_v2' twice; remove one"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    write_params(tmp_path, {**demo_params(ROW), "near_copies": {"rows": rows}})
    with pytest.raises(UserError) as fault:
        params.load(tmp_path / "params.yaml")
    assert message in str(fault.value)


@pytest.mark.slow
def test_it_needs_no_torch() -> None:
    code = "import sys, stages.near_copies; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
