"""`lineup use` puts a preset in place; rows that can't be trained on the photos at hand become comments."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lineup import cli, paths
from lineup.commands import group, use
from lineup.settings import dvc_sections, params, preset_text, trained_rows
from tests.support import project
from tests.support.photographs import photograph

PRESETS = sorted((project.ROOT / "presets").glob("*.yaml"))
EVERY_PRESET = pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
NO_PHOTOS: Counter[str | None] = Counter()
TWENTY_LABELS: Counter[str | None] = Counter({f"label {number}": 20 for number in range(20)})

TEXT = """\
seed: 0 # of everything
models:
  # Pretrained
  plain:
    objective: {name: none}

  # Trained rows
  deep:
    objective:
      name: arcface

      margin: 0.3
  # about flow
  flow: {objective: {name: softmax}}   # short

# Rows made of others
refinements: # see docs
  of_deep: {from: deep, with: plain}
"""

WITHOUT_DEEP = """\
seed: 0 # of everything
models:
  # Pretrained
  plain:
    objective: {name: none}

  # Trained rows
  # Left out, as data/raw/train has too few photos to train on:
  # deep:
  #   objective:
  #     name: arcface

  #     margin: 0.3
  # about flow
  flow: {objective: {name: softmax}}   # short

# Rows made of others
refinements: {} # see docs
  # Left out, as data/raw/train has too few photos to train on:
  # of_deep: {from: deep, with: plain}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the demo's settings, without photos."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project.ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(project.ROOT / "presets" / "demo.yaml", tmp_path / "params.yaml")
    return tmp_path


def run(preset: str) -> int:
    """The exit code of `lineup use`."""
    try:
        cli.run(lambda: group.run(["use", preset]))
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def test_the_demos_preset_is_params_yaml() -> None:
    """`lineup photos` replaces the demo's settings only while nobody has edited them."""
    assert (project.ROOT / "presets/demo.yaml").read_bytes() == (project.ROOT / "params.yaml").read_bytes()


def test_rows_become_comments_and_all_else_stays() -> None:
    assert preset_text.without_rows(TEXT, {"deep", "of_deep"}) == WITHOUT_DEEP
    assert preset_text.without_rows(TEXT, {"other"}) == preset_text.without_rows(TEXT, ()) == TEXT
    assert preset_text.models(TEXT) == {"plain", "deep", "flow"}
    assert preset_text.models(WITHOUT_DEEP) == {"plain", "flow"}


@EVERY_PRESET
def test_without_photos_to_train_on_every_preset_runs(file: Path) -> None:
    whole = params.load(file)
    use.use_preset(file.stem, NO_PHOTOS)
    written = params.load()
    dvc_sections.check(paths.PARAMS, written)
    left_out = trained_rows.objectives(whole)
    assert {*whole.models} - {*written.models} == {*left_out}
    assert not trained_rows.faults(written, NO_PHOTOS)
    assert {*whole.refinements} - {*written.refinements} == {*trained_rows.refinements_of(whole, left_out)}
    assert {row: written.models[row] for row in written.models} == {
        row: model for row, model in whole.models.items() if row not in left_out
    }


def file_lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def uncommented(lines: list[str]) -> str:
    return "\n".join(re.sub(r"^  # (?=( {2})*[a-z0-9_]+: ?)", "  ", line) for line in lines)


@EVERY_PRESET
def test_the_comments_hold_the_rows_that_are_left_out(file: Path) -> None:
    use.use_preset(file.stem, NO_PHOTOS)
    lines = paths.PARAMS.read_text(encoding="utf-8").splitlines()
    lines = [line.replace(": {}", ":") if re.match(r"refinements:", line) else line for line in lines]
    # A preset may hold rows as comments itself.
    restored, original = (yaml.safe_load(uncommented(text)) for text in (lines, file_lines(file)))
    assert {**restored, "refinements": original["refinements"]} == original


def test_photos_trains_on_half_of_a_small_pile() -> None:
    replacement = use.use_preset(use.PHOTOS, TWENTY_LABELS)
    assert not replacement.left_out and replacement.backup is None
    assert paths.PARAMS.read_bytes() == Path("presets/photos.yaml").read_bytes()


@pytest.mark.slow
def test_settings_of_your_own_are_copied_once_and_presets_never(folder: Path) -> None:
    for preset in ("photos", "strong", "competition", "demo"):
        assert use.use_preset(preset, NO_PHOTOS).backup is None
    paths.PARAMS.write_text("mine", encoding="utf-8")
    assert use.use_preset("photos").backup == Path("params.yaml.before")
    assert Path("params.yaml.before").read_text(encoding="utf-8") == "mine"
    paths.PARAMS.write_text("mine", encoding="utf-8")
    assert use.use_preset("photos").backup is None
    paths.PARAMS.write_text("another", encoding="utf-8")
    assert use.use_preset("photos").backup == Path("params.yaml.before.2")


@pytest.mark.slow
@EVERY_PRESET
@pytest.mark.parametrize("counts", [None, NO_PHOTOS], ids=["whole", "without training"])
def test_an_edit_is_noticed(file: Path, counts: Counter[str | None] | None) -> None:
    use.use_preset(file.stem, counts)
    assert use.unedited_preset() == file.stem
    paths.PARAMS.write_text(
        paths.PARAMS.read_text(encoding="utf-8").replace("seed: 0", "seed: 1"), encoding="utf-8"
    )
    assert use.unedited_preset() is None


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "models", "models: [", "\x00"])
def test_broken_settings_are_somebodys_own(text: str) -> None:
    paths.PARAMS.write_text(text, encoding="utf-8")
    assert use.unedited_preset() is None
    assert use.use_preset("photos").backup == Path("params.yaml.before")


@pytest.mark.slow
def test_a_broken_preset_of_ones_own_stops_no_other() -> None:
    Path("presets/a.yaml").write_text("models: 1", encoding="utf-8")
    assert use.unedited_preset() == use.DEMO
    assert use.use_preset("photos").backup is None


def put(*names: str) -> None:
    for seed, name in enumerate(names):
        path = paths.RAW / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(seed, 8, 8))


def put_test_photos() -> None:
    put("test/query/a/1.jpg", "test/gallery/a/2.jpg")


@pytest.mark.slow
def test_the_demos_settings_give_way_to_photos_and_follow_them() -> None:
    put_test_photos()
    lines = use.fit_to_photos()
    assert any("finetuned" in line or "arcface" in line for line in lines)
    assert not trained_rows.objectives(params.load())
    assert use.fit_to_photos() == []
    put(*(f"train/{label}/{photo}.jpg" for label in range(20) for photo in range(2)))
    assert use.fit_to_photos()
    assert paths.PARAMS.read_bytes() == Path("presets/photos.yaml").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["strong", "competition"])
def test_settings_that_were_chosen_stay(preset: str) -> None:
    put_test_photos()
    use.use_preset(preset)
    before = paths.PARAMS.read_bytes()
    assert use.fit_to_photos() == [] and paths.PARAMS.read_bytes() == before
    paths.PARAMS.write_text("mine", encoding="utf-8")
    assert use.fit_to_photos() == [] and paths.PARAMS.read_text(encoding="utf-8") == "mine"


@pytest.mark.slow
def test_it_says_what_is_left_out_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("photos") == 0
    printed = capsys.readouterr().out
    assert "lineup use strong" in printed and "lineup photos FOLDER" in printed and "without" not in printed
    put_test_photos()
    assert run("photos") == 0
    printed = capsys.readouterr().out
    assert "without the rows" in printed and "data/raw/train holds no photos" in printed
    assert run("foto") == 1
    assert "presets/foto.yaml: does not exist; did you mean 'photos'?" in capsys.readouterr().err
