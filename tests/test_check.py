"""`lineup check` says what will run on the photos of data/raw, what can't and why, and what it will cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lineup import cli, paths
from lineup.commands import check_estimate, group
from lineup.costs import past_costs, run_estimate
from lineup.costs.run_estimate import Amount, PhotoCosts, RowWork, Speed
from lineup.photos import photo_register, photo_sample, raw_counts
from lineup.settings import params
from tests.support import project
from tests.support.photographs import photograph

COSTS = PhotoCosts(
    prepare_seconds=0.04,
    prepared_bytes=60_000,
    replaced_bytes=50_000,
    picture_seconds=0.004,
    picture_bytes=60_000,
)
MEASURED = Speed(100, "measured", "data/costs/a/embed.json")


def run() -> int:
    """The exit code of `lineup check`."""
    try:
        cli.run(lambda: group.run(["check"]))
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the demo's settings for two rows, one of which trains, and a refinement of that one."""
    monkeypatch.chdir(tmp_path)
    settings = project.demo_params("mobilenet_v2", "arcface")
    settings["refinements"] = {
        "expanded": {"from": "arcface", "with": "arcface", "method": "query_expansion"}
    }
    settings["train"] |= {"labels_per_batch": 4, "images_per_label": 2}
    project.write_params(tmp_path, settings)
    Path("dvc.yaml").symlink_to(project.ROOT / "dvc.yaml")
    return tmp_path


def put(*names: str) -> None:
    for seed, name in enumerate(names):
        path = paths.RAW / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(seed))


def put_test_photos() -> None:
    put("test/query/cup/a.jpg", "test/query/lamp/b.jpg", "test/query/c.jpg")
    put("test/gallery/cup/d.jpg", "test/gallery/cup/e.jpg", "test/gallery/hat/f.jpg")


def put_training_photos(labels: int) -> None:
    put(*(f"train/{label}/{photo}.jpg" for label in range(labels) for photo in "xy"))


def without_training(folder: Path) -> None:
    settings = project.read_params(folder)
    del settings["models"]["arcface"]
    project.write_params(folder, settings | {"refinements": {}})


def amounts(parts: list[Amount]) -> dict[str, float]:
    return {part.what: part.amount for part in parts}


def test_seconds_of_a_run_worked_out_by_hand() -> None:
    rows = [
        RowWork("a", 800, MEASURED),
        # 4 epochs of 300 images at 10 a second are 120 s; its 1,000 images at 50 a second are 20 s.
        RowWork("b", 1_000, Speed(50, "guessed", "git"), 1_200, Speed(10, "measured", "past"), 600.0),
        # The limit ends the training after 60 s. Nothing is known of how fast it embeds.
        RowWork("c", 800, None, 10_000, Speed(10, "measured", "past"), 60.0),
        RowWork("d", 800, None, 10, None, 60.0),
    ]
    parts = run_estimate.seconds(1_000, 800, COSTS, rows, stages=20, cores=2)
    assert amounts(parts) == pytest.approx(
        {
            "preprocess": 1_000 * 0.04 / 2,
            "train": 120 + 60,
            "embed": 8 + 20,
            "report's pictures": 800 * 0.004 / 2,
            "starting the stages": 20 * run_estimate.SECONDS_PER_STAGE,
        }
    )
    by_name = {part.what: part for part in parts}
    assert by_name["train"].basis == "measured" and by_name["train"].unknown == ("d",)
    assert by_name["embed"].basis == "guessed" and by_name["embed"].unknown == ("c", "d")
    assert by_name["embed"].origins == ("data/costs/a/embed.json", "git")


def test_bytes_of_a_run_worked_out_by_hand() -> None:
    rows = [
        RowWork("a", 800, None, dim=100, parameters=1_000, image_size=10, pixels="x", cached_pixels=300),
        RowWork("b", 800, None, 10, dim=200, parameters=1_000, image_size=10, pixels="x", cached_pixels=200),
        RowWork("d", 800, None, dim=0, parameters=0, image_size=10, pixels="y", cached_pixels=100),
        RowWork("c", 800, None),
    ]
    parts = run_estimate.disk_bytes(1_000, 800, COSTS, rows, pixel_cache_bytes=1e9)
    assert amounts(parts) == {
        "prepared images": 1_000 * (60_000 + 50_000),
        "report's pictures": 800 * 60_000,
        "vectors": (100 + 200) * 4 * 800 * 2.5,
        "weights": (1 + 3) * 4_000,  # as fetched; and as fetched, as trained, and in the cache
        "decoded pixels": (300 + 100) * 10 * 10 * 3,  # a and b share them
    }
    assert [part.unknown for part in parts if part.what in ("vectors", "weights")] == [("c",), ("c",)]
    small = run_estimate.disk_bytes(1_000, 800, COSTS, rows, pixel_cache_bytes=500)
    assert amounts(small)["decoded pixels"] == 500


def test_without_a_readable_photo_nothing_is_said_of_photos() -> None:
    assert amounts(run_estimate.seconds(5, 5, None, [], stages=1, cores=1)).keys() == {
        "embed",
        "starting the stages",
    }


def test_a_speed_falls_with_the_number_of_pixels() -> None:
    assert MEASURED.at_size(224, 224) == MEASURED
    larger = MEASURED.at_size(112, 224)
    assert larger.images_per_second == pytest.approx(25) and larger.basis == "guessed"


def write_costs(row: str, stage: Any = "embed", **costs: Any) -> None:
    file = paths.costs(stage, row)
    file.parent.mkdir(parents=True, exist_ok=True)
    here = {"device": past_costs.this_device(), "dim": 8, "parameters": 9}
    file.write_text(json.dumps(here | costs), encoding="utf-8")


def known(row: str) -> past_costs.Known:
    settings = params.load()
    past = {name: past for name in settings.models if (past := past_costs.read(name))}
    return past_costs.known(row, settings, past, {})


def test_a_row_takes_the_speed_of_a_row_with_the_same_network(folder: Path) -> None:
    """`arcface` is MobileNetV2 at 64 px, as `mobilenet_v2` is."""
    assert known("arcface") == past_costs.Known(image_size=64)
    write_costs("mobilenet_v2", images_per_second=600, image_size=64)
    figures = known("arcface")
    assert figures.embedding == Speed(600, "measured", "data/costs/mobilenet_v2/embed.json")
    assert (figures.dim, figures.parameters) == (8, 9)
    assert figures.training and figures.training.images_per_second == pytest.approx(600 / 7)
    write_costs("arcface", images_per_second=500, image_size=64)
    write_costs("arcface", "train", images_per_second=70)
    figures = known("arcface")
    assert figures.embedding and figures.embedding.images_per_second == 500
    assert figures.training == Speed(70, "measured", "data/costs/arcface/train.json")


def test_another_machines_and_another_sizes_speed_is_a_guess(folder: Path) -> None:
    write_costs("mobilenet_v2", images_per_second=600, image_size=64, device="an abacus")
    other_machine = known("mobilenet_v2").embedding
    assert other_machine and other_machine.basis == "guessed" and "an abacus" in other_machine.origin
    write_costs("mobilenet_v2", images_per_second=600, image_size=128)
    other_size = known("mobilenet_v2").embedding
    assert other_size and other_size.basis == "guessed"
    assert other_size.images_per_second == pytest.approx(2_400)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"image_size": "64", "images_per_second": 0}'])
def test_damaged_costs_count_as_absent(content: str, folder: Path) -> None:
    write_costs("mobilenet_v2")
    paths.costs("embed", "mobilenet_v2").write_text(content, encoding="utf-8")
    assert past_costs.read("mobilenet_v2") is None


def test_splits_labels_and_answerable_queries_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_test_photos()
    put_training_photos(labels=7)
    assert run() == 0
    printed = capsys.readouterr().out
    for line in (
        "train           14 photos, 7 labels",
        "query            3 photos, 2 labels, 1 without one",
        "gallery          3 photos, 2 labels",
        "a gallery photo of their label: 1 of 3",
        "preprocess",
        "known yet: mobilenet_v2, arcface",
    ):
        assert line in printed


def test_judgements_decide_which_queries_can_have_an_answer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_test_photos()
    put_training_photos(labels=7)
    lines = [
        "query,gallery,relevance",
        "test/query/c.jpg,test/gallery/hat/f.jpg,1",
        "test/query/cup/a.jpg,test/gallery/hat/f.jpg,1",
        "test/query/lamp/b.jpg,test/gallery/hat/f.jpg,0",
    ]
    (paths.RAW / "qrels.csv").write_text("\n".join(lines), encoding="utf-8")
    (paths.RAW / "labels.csv").write_text("path,label\ntest/query/c.jpg,hat\n", encoding="utf-8")
    (paths.RAW / "attributes.csv").write_text("label,price,maker\nhat,12,Ann\n", encoding="utf-8")
    assert run() == 0
    printed = capsys.readouterr().out
    assert (
        "a relevant photo by qrels.csv: 2 of 3" in printed
        and "attributes.csv: the columns price, maker" in printed
    )
    assert "qrels.csv: 3 judgements of 3 queries" in printed and "labels.csv: labels of 1 photos" in printed


def test_a_pile_without_labels_is_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("test/query/a.jpg", "test/gallery/a.jpg", "test/gallery/b.jpg")
    without_training(folder)
    assert run() == 0
    told = capsys.readouterr().out
    assert "nothing is scored until you judge answers (`lineup judge`);" in told
    assert "`lineup photos FOLDER --queries-from edits`" in told


@pytest.mark.parametrize("name", ["train/.hidden", None])
def test_rows_that_train_need_photos(
    name: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_test_photos()
    if name:
        put(name)
    assert run() == 1
    state = "holds no photos" if name else "does not exist"
    fault = capsys.readouterr().err
    assert f"1 of 3 rows trains (arcface), but data/raw/train {state}: put photos into" in fault
    assert "or delete it and expanded" in fault


def test_too_few_labels_lead_to_the_number_to_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_test_photos()
    put_training_photos(labels=3)
    assert run() == 1
    fault = capsys.readouterr().err
    assert "models.arcface.objective: labels_per_batch is 4, but there are 3 labels to train on" in fault
    assert "set it to 3 or less" in fault and "or delete it and expanded" in fault


def absent() -> None:
    pass


def empty() -> None:
    paths.RAW.mkdir(parents=True)


def tracked() -> None:
    Path("data").mkdir()
    Path("data/raw.dvc").touch()


@pytest.mark.parametrize(
    ("prepare", "advice"),
    [(absent, "lineup photos FOLDER"), (empty, "lineup photos FOLDER"), (tracked, "dvc pull data/raw")],
)
def test_before_there_are_photos_it_says_what_comes_next(
    prepare: Callable[[], None], advice: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make demo` calls it before the demo's photos are laid out."""
    prepare()
    assert run() == 0
    assert advice in capsys.readouterr().out


def as_file() -> None:
    Path("data").mkdir()
    paths.RAW.touch()


def without_queries() -> None:
    put("test/gallery/a.jpg")


def with_a_bad_table() -> None:
    put_test_photos()
    (paths.RAW / "labels.csv").write_text("path,label\nno/such.jpg,x\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("prepare", "place"),
    [
        (as_file, "data/raw: "),
        (without_queries, "data/raw/test/query: does not exist"),
        (with_a_bad_table, "data/raw/labels.csv: line 2: 'no/such.jpg' is not in data/raw"),
    ],
)
def test_a_fault_of_the_folder_is_one_sentence(
    prepare: Callable[[], None], place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    assert run() == 1
    fault = capsys.readouterr().err
    assert place in fault and fault.count("\n") == 1


def test_a_photo_of_the_sample_that_cannot_be_read_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_test_photos()
    (paths.RAW / "test/gallery/cup/z\x1b[31m.jpg").write_text("no photo", encoding="utf-8")
    without_training(folder)
    assert run() == 0
    printed = capsys.readouterr().out
    assert "of 7 photos tried: test/gallery/cup/z\\x1b[31m.jpg is not an image" in printed


def test_the_sample_is_spread_over_all_photos() -> None:
    with photo_register.temporary() as register:
        register.executemany(
            "INSERT INTO file (path, split) VALUES (?, 'gallery')",
            [(f"{number:03}",) for number in range(100)],
        )
        assert [*raw_counts.spread(register, 10)] == [f"{number:03}" for number in range(0, 100, 10)]
        assert len([*raw_counts.spread(register, 1_000)]) == 100


def test_the_sample_measures_what_preprocess_stores(tmp_path: Path) -> None:
    small, large = photograph(1, 60, 40), photograph(2, 600, 400)
    (tmp_path / "small.jpg").write_bytes(small)
    (tmp_path / "large.jpg").write_bytes(large)
    sample = photo_sample.take(tmp_path, ["small.jpg", "large.jpg", "absent.jpg"], 64, 60)
    assert sample.photos == 2 and sample.images[0] == small
    assert sample.prepared_bytes == len(small) + len(sample.images[1])
    assert sample.replaced_bytes == len(sample.images[1]) < len(large)
    assert sample.prepare_seconds > 0 and sample.picture_bytes > 0
    assert [name for name, _ in sample.unreadable] == ["absent.jpg"]
    assert photo_sample.take(tmp_path, ["small.jpg"], 64, -1).photos == 0


@pytest.mark.slow
def test_the_stages_of_all_rows_are_counted(folder: Path) -> None:
    project.run("dvc", "init", "-q", "--no-scm", cwd=folder)
    listed = project.run("dvc", "stage", "list", "--name-only", cwd=folder).stdout.split()
    assert "fetch@arcface" in listed and check_estimate.stage_count(params.load()) == len(listed)


@pytest.mark.slow
def test_it_starts_without_torch() -> None:
    code = "import sys, lineup.commands.check; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=project.ROOT, check=True, env={**os.environ})


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5_900, "98 min"), (6_000, "1.7 h")]
)
def test_durations_have_two_digits(seconds: float, shown: str) -> None:
    assert check_estimate.duration(seconds) == shown


def test_sizes_are_in_mb_and_gb() -> None:
    assert [check_estimate.size(count) for count in (0, 5e6, 2.25e9)] == ["0 MB", "5 MB", "2.2 GB"]
