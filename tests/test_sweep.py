"""`lineup sweep` writes rows that differ in one setting, and changes nothing else of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lineup import cli, paths
from lineup.commands import group
from lineup.comparison import sweeps
from lineup.settings import params, sweep
from lineup.settings.params import Params
from tests.support.project import ROOT

DEMO = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def demo(empty_folder: Path) -> None:
    paths.PARAMS.write_text(DEMO, encoding="utf-8")


def swept(*arguments: str) -> int:
    """The exit code of `lineup sweep`."""
    try:
        cli.run(lambda: group.run(["sweep", *arguments]))
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def rows() -> dict[str, Any]:
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    return {**content["models"], **content["refinements"]}


@pytest.mark.slow
def test_each_size_is_a_row_behind_its_own_and_all_else_stays() -> None:
    before = rows()
    assert swept("mobilenet_v2", "--image-size", "96,128,160") == 0
    after = rows()
    assert [*after][:3] == ["mobilenet_v2", "mobilenet_v2_96px", "mobilenet_v2_160px"]  # it has 128 itself
    for side in (96, 160):
        encoder = before["mobilenet_v2"]["encoder"] | {"image_size": side}
        assert after.pop(f"mobilenet_v2_{side}px") == before["mobilenet_v2"] | {"encoder": encoder}
    assert after == before
    lines = paths.PARAMS.read_text(encoding="utf-8").splitlines()
    assert [line for line in DEMO.splitlines() if line not in lines] == []  # comments, too
    params.load()


@pytest.mark.slow
def test_any_setting_of_a_model_or_a_refinement_can_be_varied() -> None:
    assert swept("arcface", "--set", "objective.margin=0.2,0.5") == 0
    assert swept("arcface_expanded", "--set", "n=5") == 0
    after = rows()
    assert after["arcface_margin_0_2"]["objective"] == {**after["arcface"]["objective"], "margin": 0.2}
    assert after["arcface_expanded_n_5"] == {**after["arcface_expanded"], "n": 5}
    assert "  arcface_expanded_n_5: {from: arcface, with: arcface, method: query_expansion, n: 5}\n" in (
        paths.PARAMS.read_text(encoding="utf-8")
    )


@pytest.mark.slow
def test_a_share_of_all_labels_is_the_row_itself() -> None:
    assert swept("arcface", "--label-share", "0.25,0.5,1") == 0
    after = rows()
    shares = {
        row: after[row]["objective"].get("label_share") for row in after if row.startswith("arcface_label")
    }
    assert shares == {"arcface_label_share_0_25": 0.25, "arcface_label_share_0_5": 0.5}
    [curve] = [sweep for sweep in sweeps.find(params.load()) if "arcface" in sweep.rows.values()]
    assert [*curve.rows] == [0.25, 0.5, 1] and curve.rows[1] == "arcface"


def test_numbers_are_read_as_params_yaml_reads_them() -> None:
    """YAML 1.2 reads 1e-4 as a number, and so does DVC."""
    text = DEMO.replace("learning_rate: 0.0007", "learning_rate: 7e-4")
    paths.PARAMS.write_text(text, encoding="utf-8")
    assert swept("triplet", "--set", "objective.learning_rate=1e-4,1e-3") == 0
    models = params.load().models
    rates = {row: models[row].objective.learning_rate for row in models if row.startswith("triplet")}  # type: ignore[union-attr]
    assert sorted(rates.values()) == [1e-4, 7e-4, 1e-3]


@pytest.mark.slow
def test_a_second_time_adds_nothing_and_more_values_only_what_is_new(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert swept("mobilenet_v2", "--image-size", "96") == 0
    once = paths.PARAMS.read_bytes()
    assert swept("mobilenet_v2", "--image-size", "96") == 0
    assert paths.PARAMS.read_bytes() == once and "has these rows already" in capsys.readouterr().out
    assert swept("mobilenet_v2", "--image-size", "96,112") == 0
    assert "added to params.yaml: mobilenet_v2_112px\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["raw_pixel", "--image-size", "96"], "'raw_pixel' is not a row; did you mean 'raw_pixels_l2'?"),
        (["arcface", "--set", "objectiv.margin=1,2"], "no section 'objectiv'; did you mean 'objective'?"),
        (["arcface", "--set", "objective.margn=0.1"], "objective.margn is unknown; did you mean 'margin'?"),
        (["arcface", "--set", "objective.margin"], "has no values; write --set objective.margin=VALUE,VALUE"),
        (["arcface", "--set", "objective.margin=0.1,,2"], "is not a list of values"),
        (["arcface", "--set", "objective.margin=["], "is not a list of values"),
        (["arcface", "--label-share", "0,0.5"], "label_share is 0: input should be greater than 0"),
        (["mobilenet_v2", "--label-share", "0.5"], "objective.label_share is unknown"),
        (["simclr", "--label-share", "0.5"], "simclr uses no labels"),
        (["arcface"], "a sweep varies one setting, and 0 are given"),
        (["arcface", "--image-size", "96", "--set", "n=1"], "a sweep varies one setting, and 2 are given"),
        (["mobilenet_v2", "--image-size", "big"], "encoder.image_size is 'big': should be a whole number"),
        (
            ["mobilenet_v2", "--image-size", "384"],
            "set preprocess.shorter_side_px to 768; nothing was written",
        ),
    ],
)
def test_what_cannot_be_swept_is_told_and_nothing_is_written(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(*arguments) == 1
    assert sentence in capsys.readouterr().err
    assert paths.PARAMS.read_text(encoding="utf-8") == DEMO


def test_a_row_of_that_name_with_other_settings_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    text = DEMO.replace("  siamese:\n", "  mobilenet_v2_96px:\n")
    paths.PARAMS.write_text(text, encoding="utf-8")
    assert swept("mobilenet_v2", "--image-size", "96") == 1
    assert "mobilenet_v2_96px has other settings" in capsys.readouterr().err
    assert paths.PARAMS.read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_a_row_at_the_end_of_a_file_without_a_last_line_break() -> None:
    paths.PARAMS.write_text(DEMO.rstrip("\n"), encoding="utf-8")
    assert swept("arcface_scaled", "--set", "k=5") == 0
    assert rows()["arcface_scaled_k_5"]["k"] == 5


SETTINGS = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)
VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False), st.text(max_size=120)),
    lambda inner: st.dictionaries(SETTINGS, inner, min_size=1, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(SETTINGS, VALUES, min_size=1, max_size=3))
def test_rows_are_written_as_they_are_read(content: dict[str, Any]) -> None:
    assert yaml.safe_load("models:\n" + sweep.as_yaml(content, 2)) == {"models": content}


# The curves that sweeps make


def found(models: dict[str, Any], refinements: dict[str, Any] | None = None) -> list[sweeps.Sweep]:
    return sweeps.find(Params.model_validate({"models": models, "refinements": refinements or {}}))


def model(image_size: int, metric: str = "cosine", **objective: Any) -> dict[str, Any]:
    encoder = {"library": "torchvision", "name": "resnet18", "weights": "none", "allow_random": True}
    return {
        "encoder": {**encoder, "image_size": image_size},
        "objective": objective or {"name": "none"},
        "search": {"metric": metric, "index": "flat"},
    }


def test_rows_that_differ_in_one_number_are_a_sweep() -> None:
    rows = {"c": model(128), "a": model(64), "b": model(96), "of_l2": model(80, "l2")}
    assert found(rows) == [sweeps.Sweep("encoder.image_size", {64: "a", 96: "b", 128: "c"})]


def test_two_rows_are_no_sweep_and_neither_are_rows_that_differ_in_more() -> None:
    assert found({"a": model(64), "b": model(96)}) == []
    assert found({"a": model(64), "b": model(96), "c": model(128, name="arcface")}) == []


def test_a_setting_that_is_left_out_has_its_default() -> None:
    margins = {"default": {}, "small": {"margin": 0.1}, "large": {"margin": 0.9}}
    rows = {row: model(64, name="arcface", **margin) for row, margin in margins.items()}
    assert found(rows) == [sweeps.Sweep("objective.margin", {0.1: "small", 0.5: "default", 0.9: "large"})]


def test_refinements_are_swept_too() -> None:
    made = {"from": "a", "with": "a", "method": "query_expansion"}
    swept_rows = {f"n_{n}": {**made, "n": n} for n in (1, 2, 5)}
    assert found({"a": model(64)}, swept_rows) == [sweeps.Sweep("n", {1: "n_1", 2: "n_2", 5: "n_5"})]


@pytest.mark.slow
def test_rows_of_a_sweep_are_found_as_lineup_sweep_writes_them() -> None:
    assert swept("mobilenet_v2", "--image-size", "64,96") == 0
    [sweep_of_sizes] = [
        sweep for sweep in sweeps.find(params.load()) if "mobilenet_v2" in sweep.rows.values()
    ]
    assert sweep_of_sizes.rows == {64: "mobilenet_v2_64px", 96: "mobilenet_v2_96px", 128: "mobilenet_v2"}
