"""The whole pipeline through `dvc repro`, on a small slice of the demo: what a change runs, and what it
doesn't.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support import finished_project, project
from tests.support.finished_project import ROWS
from tests.support.project import demo_params, read_params, repro, run, tree, write_params

pytestmark = pytest.mark.slow

JOINED = {"slices", "compare", "report"}  # what reads every row; in seconds
ROW_STAGES = ["fetch", "train", "quantise", "embed", "index", "latency", "retrieve", "score"]


def of(row: str, first: str = "fetch") -> set[str]:
    return {f"{stage}@{row}" for stage in [*ROW_STAGES[ROW_STAGES.index(first) :], "report_row"]}


@pytest.fixture
def folder(finished_copy: Path) -> Path:
    return finished_copy


def test_the_first_run_executes_everything(finished: Path) -> None:
    expected = {"preprocess", "report_thumbnails"} | JOINED | of(ROWS[0]) | of(ROWS[1])
    assert set(finished_project.executed(finished)) == expected


def comparison(folder: Path) -> str:
    return (folder / "metrics" / "comparison.md").read_text(encoding="utf-8")


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "metrics" / "metrics.json").read_text(encoding="utf-8"))


def test_a_second_run_executes_nothing(folder: Path) -> None:
    assert repro(folder) == []
    assert set(metrics(folder)) == set(ROWS)
    assert all(0 < row["map_at_r"] < 1 for row in metrics(folder).values())


def test_results_and_dvc_cache_share_their_bytes_on_disk(finished: Path) -> None:
    """By hard links; such a file cannot be written in place."""
    for file in sorted((finished / "data/embeddings").rglob("*.parquet")):
        assert file.stat().st_nlink == 2 and not file.stat().st_mode & 0o222


def test_one_changed_encoder_runs_its_row_and_compare_only(folder: Path) -> None:
    params = read_params(folder)
    params["models"]["raw_pixels_l2"]["encoder"]["image_size"] = 48
    write_params(folder, params)
    before = metrics(folder)
    assert set(repro(folder)) == of("raw_pixels_l2") | JOINED
    assert metrics(folder)["mobilenet_v2"] == before["mobilenet_v2"]
    assert metrics(folder)["raw_pixels_l2"] != before["raw_pixels_l2"]


def test_a_changed_search_runs_nothing_before_index(folder: Path) -> None:
    params = read_params(folder)
    params["models"]["mobilenet_v2"]["search"]["metric"] = "l2"
    write_params(folder, params)
    # `quantise` reads the whole row, and writes the same as before.
    assert set(repro(folder)) == {"quantise@mobilenet_v2"} | of("mobilenet_v2", "index") | JOINED


def test_a_changed_precision_runs_its_row_from_there_and_no_other(folder: Path) -> None:
    params = read_params(folder)
    params["models"]["mobilenet_v2"]["precision"] = "bfloat16"
    write_params(folder, params)
    assert set(repro(folder)) == of("mobilenet_v2", "quantise") | JOINED
    params["models"]["raw_pixels_l2"]["precision"] = "float32"  # as by default
    write_params(folder, params)
    assert set(repro(folder)) == {"quantise@raw_pixels_l2"} | JOINED


def test_a_new_batch_size_runs_nothing(folder: Path) -> None:
    params = read_params(folder)
    params["embed"]["batch_size"] = 7
    write_params(folder, params)
    assert repro(folder) == []


def test_an_added_row_runs_alone_and_a_removed_one_leaves_the_table(folder: Path) -> None:
    params = read_params(folder)
    params["models"]["efficientnet_lite0"] = demo_params("efficientnet_lite0", image_size=48)["models"][
        "efficientnet_lite0"
    ]
    write_params(folder, params)
    assert set(repro(folder)) == of("efficientnet_lite0") | JOINED
    assert "efficientnet_lite0" in comparison(folder)

    del params["models"]["raw_pixels_l2"]
    write_params(folder, params)
    assert set(repro(folder)) == JOINED
    assert "raw_pixels_l2" not in comparison(folder) and set(metrics(folder)) == {
        "mobilenet_v2",
        "efficientnet_lite0",
    }


def test_a_new_gallery_photo_fetches_and_trains_nothing(folder: Path, tmp_path: Path) -> None:
    label = sorted((folder / "data/raw/test/gallery").iterdir())[0]
    photo = label / "new photo.png"
    with Image.open(sorted(label.glob("*.png"))[0]) as image:
        image.convert("RGB").rotate(5).save(photo)
    executed = repro(folder)
    assert set(executed) == {"preprocess", "report_thumbnails"} | JOINED | of(ROWS[0], "quantise") | of(
        ROWS[1], "quantise"
    )
    costs = json.loads((folder / "data/costs/mobilenet_v2/embed.json").read_text())
    assert costs["computed"] == 1

    # The same collection in a fresh project, without any history, gives the same bytes. Each stage up to the rankings
    # has a Python of its own here, and two threads.
    fresh = project.create(tmp_path / "fresh", read_params(folder))
    shutil.copytree(folder / "data/raw", fresh / "data/raw")
    repro(fresh, *(f"retrieve@{row}" for row in ROWS), forks=False, OMP_NUM_THREADS="2")
    repro(fresh, *(f"score@{row}" for row in ROWS))
    for part in ("prepared", "embeddings", "indexes", "rankings"):
        assert tree(fresh / "data" / part) == tree(folder / "data" / part)
    assert tree(fresh / "metrics/queries") == tree(folder / "metrics/queries")


def test_a_mended_label_embeds_nothing(folder: Path) -> None:
    gallery = folder / "data/raw/test/gallery"
    first, second = sorted(gallery.iterdir())[:2]
    photo = sorted(first.glob("*.png"))[0]
    photo.rename(second / f"moved {photo.name}")
    executed = set(repro(folder))
    assert executed == {"preprocess"} | JOINED | of(ROWS[0], "retrieve") | of(ROWS[1], "retrieve")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("mobilenet_v2", "encoder", "image_sise"),
            "models.mobilenet_v2.encoder.image_sise is unknown; did you mean 'image_size'?",
        ),
        (
            ("mobilenet_v2", "search", "metrik"),
            "models.mobilenet_v2.search.metrik is unknown; did you mean 'metric'?",
        ),
    ],
)
def test_a_misspelt_setting_is_told_in_a_sentence(
    folder: Path, change: tuple[str, str, str], told: str
) -> None:
    params = read_params(folder)
    row, part, key = change
    params["models"][row][part][key] = 1
    write_params(folder, params)
    before = tree(folder / "data")
    done = run("dvc", "repro", cwd=folder, check=False)
    assert done.returncode != 0
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    # DVC takes the outs of the stage that failed off the workspace; its cache has them, and nothing else is
    # lost.
    del params["models"][row][part][key]
    write_params(folder, params)
    assert repro(folder) == []
    assert tree(folder / "data") == before
