"""params.yaml is checked as a whole.

Each fault is told in one sentence that names the place and the nearest fix.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lineup import cli, paths
from lineup.commands import group
from lineup.errors import UserError
from lineup.settings import params, schema
from tests.support.project import ROOT

TEXT = """
seed: 0
models:
  resnet50: &resnet50
    encoder: {library: torchvision, name: resnet50, weights: hub}
    objective: {name: none}
    search: {metric: cosine, index: flat}
"""


def load(tmp_path: Path, text: str) -> params.Params:
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    return params.load(file)


def check(*arguments: str) -> int:
    """The exit code of `lineup check`."""
    try:
        cli.run(lambda: group.run(["check", *arguments]))
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def test_the_demos_file_is_well_formed() -> None:
    assert {"mobilenet_v2", "efficientnet_lite0", "raw_pixels_l2"} <= set(
        params.load(ROOT / "params.yaml").models
    )


def test_defaults_fill_what_is_not_said(tmp_path: Path) -> None:
    loaded = load(tmp_path, TEXT)
    assert loaded.score.cutoffs == (1, 5, 10) and loaded.preprocess.on_bad_image == "skip"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("objective:", "objektive:", "models.resnet50.objektive is unknown; did you mean 'objective'?"),
        ("seed: 0", "sead: 0", "sead is unknown; did you mean 'seed'?"),
        ("seed: 0", "seed: -1", "seed is -1: input should be greater than or equal to 0"),
        ("name: none", "name: nune", "models.resnet50.objective.name is 'nune'; did you mean 'none'?"),
        (
            "library: torchvision",
            "library: torchvison",
            "models.resnet50.encoder.library is 'torchvison'; did you mean 'torchvision'?",
        ),
        ("metric: cosine, ", "", "models.resnet50.search.metric is missing"),
        (
            "metric: cosine",
            "metric: cosin",
            "models.resnet50.search.metric is 'cosin'; did you mean 'cosine'?",
        ),
        ("weights: hub", "weights: none", "models.resnet50.encoder: weights: none means random vectors"),
        (
            "weights: hub",
            "weights: hub, image_size: 4",
            "models.resnet50.encoder.image_size is 4: input should be greater than or equal to 16",
        ),
        ("  resnet50:", "  ResNet-50:", "models.ResNet-50: a row's name may hold only a-z, 0-9 and _"),
        ("models:", "models: {}\nrest:", "rest is unknown"),
        ("search:", "search: [", "line"),
        ("seed: 0", "seed: 2024-13-45", "has an invalid value (month must be in 1..12); quote it"),
        ("seed: 0", "seed: !!int abc", "has an invalid value"),
        ("seed: 0", f"seed: {'[' * 3000}{']' * 3000}", "is nested too deeply"),
        ("seed: 0", "seed: 0\nseed: 1", "line 3: 'seed' is there twice; remove one"),
        (
            "seed: 0",
            f"seed: 0x{'f' * 5000}",
            "seed is a number of more than 77 digits: input should be less than 4294967296",
        ),
        (
            "seed: 0",
            f"seed: {':'.join('1' * 100_000)}",
            "line 2: holds a value of more than 10,000 characters",
        ),
        ("seed: 0", f"seed: {'[' * 200}{']' * 200}", "seed is [[[[...]]]]: should be a whole number"),
        ("seed: 0", "seed: \0", "is not valid YAML (special characters are not allowed)"),
        (
            "name: none",
            "name: metric_loss, loss: CosFaceLoss, arguments: {margin: .nan}",
            "objective.arguments: a date, .nan or .inf",
        ),
        (
            "  resnet50:",
            f"  {'a' * 101}:",
            f"models.{'a' * 100}...: a row's name may hold only a-z, 0-9 and _, at most 100 characters",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_the_nearest_fix(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "place", "fix"),
    [
        ("seed: yes", "seed is true", "a whole number"),
        ("seed: 1.0", "seed is 1.0", "a whole number"),
        ("seed: '1'", "seed is '1'", "a whole number"),
        ("train: {learning_rate: no}", "train.learning_rate is false", "a number"),
        ("score: {cutoffs: [1, yes]}", "score.cutoffs.1 is true", "a whole number"),
        ("near_copies: {rows: [1]}", "near_copies.rows.0 is 1", "text"),
    ],
)
def test_types_are_strict(setting: str, place: str, fix: str, tmp_path: Path) -> None:
    """YAML reads yes and no as true and false, which are no numbers."""
    with pytest.raises(UserError) as error:
        load(tmp_path, TEXT.replace("seed: 0", setting))
    assert f"{place}: should be {fix}" in str(error.value)


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "0.0001", "1.0e-4", "+1e-4"])
def test_numbers_are_read_as_dvc_reads_them(number: str, tmp_path: Path) -> None:
    """PyYAML reads 1e-4 as text."""
    settings = load(tmp_path, TEXT.replace("seed: 0", f"train: {{learning_rate: {number}, ema: 1e-1}}"))
    assert settings.train.learning_rate == 1e-4


def test_a_whole_number_may_stand_for_a_fraction_and_a_list_for_a_tuple(tmp_path: Path) -> None:
    text = TEXT.replace("weights: hub", "weights: hub, mean: [0, 0.5, 1], std: [1, 1, 1]")
    settings = load(tmp_path, text.replace("seed: 0", "score: {cutoffs: [1, 3]}\ntrain: {max_minutes: 5}"))
    assert settings.score.cutoffs == (1, 3) and settings.train.max_minutes == 5.0
    assert settings.models["resnet50"].encoder.mean == (0.0, 0.5, 1.0)


def test_yaml_aliases_and_merges_are_understood(tmp_path: Path) -> None:
    text = TEXT + "  other:\n    <<: *resnet50\n    search: {metric: l2, index: flat}\n"
    assert load(tmp_path, text).models["other"].encoder.name == "resnet50"


def test_a_key_that_is_merged_over_is_not_there_twice(tmp_path: Path) -> None:
    """PyYAML makes `train` first, as it lies less deep, and writes the merged keys into what it merges as it
    does so.
    """
    text = TEXT.replace(
        "{name: none}", "{name: softmax, augmentation: &merged {<<: {crop: 0.7, flip: 0.1}, crop: 0.6}}"
    )
    loaded = load(tmp_path, text + "train: {augmentation: {<<: *merged}}\n")
    assert (loaded.train.augmentation.crop, loaded.train.augmentation.flip) == (0.6, 0.1)


LAUGHS = "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
MERGES = "".join(f"- &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 25))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"seed:\n- &a0 laugh\n{LAUGHS}",
            "line 8: holds more than 100,000 values, counting what each alias (*) stands for",
        ),
        (
            f"seed:\n- &a0 {{a: b}}\n{MERGES}",
            "holds more than 100,000 values, counting what each alias (*) stands for",
        ),
        ("seed: &a [*a]\n", "line 1: contains itself"),
        ("\n" * 2_000_000, "is larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_grows_as_it_is_read_ends_at_once(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    assert told in str(error.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "params.yaml"
    os.mkfifo(pipe)
    for path, told in (
        (pipe, "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=told):
            params.load(path)


def test_the_checker_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(TEXT + '  "\\e[2J\\n": 1\n', encoding="utf-8")
    assert check(str(file)) == 1
    assert r"models.\x1b[2J\n: a row's name may hold only" in capsys.readouterr().err


def test_a_missing_or_empty_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        params.load(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="is empty"):
        load(tmp_path, "")
    with pytest.raises(UserError, match="holds no sections"):
        load(tmp_path, "- models")


def test_the_checker_prints_one_line_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(TEXT.replace("search:", "serch:"), encoding="utf-8")
    assert check(str(file)) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda settings: settings.pop("near_copies"),
            "near_copies is missing, which DVC needs; set `near_copies: {rows: []}`",
        ),
        (
            lambda settings: settings.update(near_copies={}),
            "near_copies.rows is missing, which DVC needs; set `near_copies: {rows: []}`",
        ),
        (lambda settings: settings.pop("seed"), "seed is missing, which DVC needs; set `seed: 0`"),
        (lambda settings: settings.pop("train"), "train is missing, which DVC needs; set `train: {}`"),
        (
            lambda settings: settings.pop("refinements"),
            "refinements is missing, which DVC needs; set `refinements: {}`",
        ),
        (
            lambda settings: settings.update(score={}),
            "score.cutoffs is missing, which DVC needs; set `score: {cutoffs: [1, 5, 10]}`",
        ),
        (
            lambda settings: settings.update(refinements=None),
            "refinements is empty; for none set refinements: {}",
        ),
        (
            lambda settings: settings.update(models=None),
            "models is None: should be settings with a name each",
        ),
        (
            lambda settings: settings["retrieve"].update(depth=True),
            "retrieve.depth is true: should be a whole number",
        ),
        (
            lambda settings: settings["models"]["arcface"]["encoder"].update(
                library="timm", name="hf-hub:a/b", weights="none", allow_random=True
            ),
            "models.arcface.encoder: weights: none doesn't go with name: hf-hub:a/b, which has its own",
        ),
        (
            lambda settings: settings["models"]["arcface"]["encoder"].update(image_size=518),
            "preprocess.shorter_side_px is 512, but models.arcface resizes photos to 518 px and needs twice as many; "
            "set preprocess.shorter_side_px to 1036",
        ),
        (
            lambda settings: settings["models"]["arcface"]["objective"].update(image_size=384),
            "preprocess.shorter_side_px is 512, but models.arcface resizes photos to 384 px",
        ),
        (
            lambda settings: settings["score"].update(cutoffs=10),
            "score.cutoffs is 10: should be a list, as [a, b]",
        ),
        (lambda settings: settings.update(models={}), "models is empty"),
        (
            lambda settings: settings["models"]["triplet"]["objective"].update(images_per_label=1),
            "models.triplet.objective.images_per_label is 1, but triplet of models.triplet learns from pairs of images of one label; set "
            "models.triplet.objective.images_per_label to 2 or more",
        ),
        (
            lambda settings: settings["train"].update(images_per_label=1),
            "train.images_per_label is 1, but contrastive of models.siamese learns from pairs of images of one label; set "
            "models.siamese.objective.images_per_label to 2 or more",
        ),
        (
            lambda settings: settings["models"]["arcface"].update(
                objective={"name": "metric_loss", "loss": "SupConLoss", "images_per_label": 1}
            ),
            "models.arcface.objective.images_per_label is 1, but metric_loss of models.arcface learns from pairs",
        ),
        (
            lambda settings: settings["models"].update({18: settings["models"]["arcface"]}),
            "models: a row's name is 18, which YAML does not read as text",
        ),
        (
            lambda settings: settings["models"]["arcface"].update(objective="none"),
            "models.arcface.objective is 'none': should be settings",
        ),
        (
            lambda settings: settings["models"]["arcface"]["encoder"].update(weights="IMAGENET1K_V2"),
            "models.arcface.encoder.weights is 'IMAGENET1K_V2': use hub, hub:NAME, package:PACKAGE/FILE, file:PATH or none",
        ),
    ],
)
def test_the_checker_tells_what_dvc_would_not(
    change: Callable[[dict[str, Any]], object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    change(settings)
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    assert check(str(file)) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}: {told}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda settings: settings["preprocess"].update(max_side=512),
            "preprocess.max_side is now called preprocess.shorter_side_px",
        ),
        (
            lambda settings: settings["embed"].update(pixels_gb=1),
            "embed.pixels_gb is now called embed.pixel_cache_gb",
        ),
        (lambda settings: settings["retrieve"].update(k=100), "retrieve.k is now called retrieve.depth"),
        (lambda settings: settings["score"].update(k=[1]), "score.k is now called score.cutoffs"),
        (lambda settings: settings.update(leaks={"by": []}), "leaks is now called near_copies"),
        (
            lambda settings: settings["models"]["efficientnet_lite0"]["encoder"].update(match="order"),
            "models.efficientnet_lite0.encoder.match is now called assign_by",
        ),
    ],
)
def test_a_setting_of_an_earlier_version_names_its_new_name(
    change: Callable[[dict[str, Any]], object], sentence: str, tmp_path: Path
) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    change(settings)
    with pytest.raises(UserError, match=sentence):
        load(tmp_path, yaml.safe_dump(settings, sort_keys=False))


def test_every_file_named_after_a_row_fits_into_its_folder() -> None:
    """With the names of temporary files, ours and DVC's, where names are encrypted and 143 bytes are left."""
    row = "a" * schema.LONGEST_NAME
    files = (
        paths.index,
        paths.ranking,
        paths.submission,
        paths.row_metrics,
        paths.row_queries,
        paths.report_row,
        paths.embeddings,
    )
    names = [path(row).name for path in files]
    assert max(len(f".{name}.former.{2**22}.tmp") for name in names) <= 143
    assert max(len(f".{name}.{'x' * 22}.tmp") for name in names) <= 143
    assert len(f"embed_train.{row}.lock") <= 143


def test_rows_that_need_no_pairs_may_have_one_image_per_label() -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["train"]["images_per_label"] = 1
    settings["models"] = {
        row: settings["models"][row]
        for row in ("arcface", "finetuned", "clip_finetuned", "simclr", "mobilenet_v2")
    }
    settings["models"]["simclr"]["objective"] = {"name": "metric_loss", "loss": "ProxyAnchorLoss"}
    assert params.Params.model_validate(settings).train.images_per_label == 1
