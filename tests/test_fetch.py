"""fetch: the row's encoder on disk, the same bytes each time; faults name their place in params.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lineup import paths
from lineup.encoders import encoder_folder
from lineup.errors import UserError
from stages import fetch
from tests.support.project import ROOT, demo_params, run
from tests.support.small_encoders import SQUEEZENET


@pytest.fixture(autouse=True)
def project(empty_folder: Path) -> Path:
    return empty_folder


def settings(seed: int = 0, **encoder: Any) -> None:
    row = {"encoder": encoder, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": "flat"}}
    paths.PARAMS.write_text(yaml.safe_dump({"seed": seed, "models": {"a": row}}))


def fetched() -> dict[str, bytes]:
    fetch.main(["--row", "a"])
    return {path.name: path.read_bytes() for path in sorted(paths.weights("a").iterdir())}


@pytest.mark.slow
def test_the_demo_s_rows_are_fetched_without_network_and_with_one_result() -> None:
    params = demo_params("mobilenet_v2", "efficientnet_lite0", "raw_pixels_l2")
    paths.PARAMS.write_text(yaml.safe_dump(params))
    facts = {}
    for row in params["models"]:
        fetch.main(["--row", row])
        facts[row] = json.loads((paths.weights(row) / "encoder.json").read_text())
        assert encoder_folder.load(paths.weights(row)).dim == 1280
        assert facts[row]["random"] is False
        assert facts[row]["source"]["sha256"] == params["models"][row]["encoder"]["sha256"]
        assert facts[row]["image_size"] == 64
    assert facts["raw_pixels_l2"]["weights_sha256"] == facts["mobilenet_v2"]["weights_sha256"], (
        "one checkpoint"
    )
    assert facts["raw_pixels_l2"]["mean"] == [0, 0, 0]
    assert facts["raw_pixels_l2"]["std"] == [1, 1, 1]
    assert facts["mobilenet_v2"]["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.slow
def test_random_weights_are_the_same_each_time_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    settings(**SQUEEZENET)
    first = fetched()
    assert "random weights" in capsys.readouterr().err
    torch.rand(7)  # another state of the generator
    assert fetched() == first
    assert json.loads(first["encoder.json"])["random"] is True
    settings(seed=1, **SQUEEZENET)
    assert fetched() == first, "the seed is not among fetch's params in dvc.yaml"


@pytest.mark.slow
def test_another_process_fetches_the_same_bytes(project: Path) -> None:
    settings(**SQUEEZENET)
    first = fetched()
    run("python", "-m", "stages.fetch", "--row", "a", cwd=project, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="2")
    assert fetched() == first


def test_only_what_embeds_is_kept() -> None:
    settings(**SQUEEZENET)
    fetched()
    names = load_file(paths.weights("a") / "model.safetensors").keys()
    assert "features.0.weight" in names
    assert not any(name.startswith("classifier") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"name": "squeezenet1_2"},
            r"models\.a\.encoder\.name: torchvision has no .*did you mean 'squeezenet1_[01]'",
        ),
        ({"weights": "file:mine.pth"}, r"models\.a\.encoder\.weights: mine\.pth does not exist"),
        (
            {"weights": "hub:V9", "allow_random": False},
            r"models\.a\.encoder\.weights: torchvision has no 'V9'",
        ),
        (
            {"name": "inception_v3", "image_size": 16},
            r"models\.a\.encoder\.image_size: the network can't take 16 px",
        ),
    ],
)
def test_faults_name_their_place(change: dict[str, Any], told: str) -> None:
    settings(**{**SQUEEZENET, **change})
    with pytest.raises(UserError, match=r"^params\.yaml: " + told) as caught:
        fetched()
    assert "\n" not in str(caught.value)
    assert not paths.weights("a").exists()


@pytest.mark.slow
def test_a_row_whose_own_size_needs_larger_photos_says_what_to_raise() -> None:
    """That size is known when the encoder is fetched: torchvision's networks resize to 256 px where
    params.yaml says nothing.
    """
    settings(**{name: value for name, value in SQUEEZENET.items() if name != "image_size"})
    content = yaml.safe_load(paths.PARAMS.read_text())
    for shorter_side_px in (512, 511):
        paths.PARAMS.write_text(
            yaml.safe_dump({**content, "preprocess": {"shorter_side_px": shorter_side_px}})
        )
        if shorter_side_px == 512:
            fetched()
            continue
        with pytest.raises(
            UserError,
            match=r"shorter_side_px is 511, but models\.a resizes photos to 256 px .* set .* to 512$",
        ):
            fetched()


def test_a_missing_hash_can_be_pasted() -> None:
    torch.save({"x": torch.ones(1)}, "mine.pth")
    settings(**{**SQUEEZENET, "weights": "file:mine.pth"})
    with pytest.raises(UserError, match=r"models\.a\.encoder\.sha256 is missing.*add `sha256: [0-9a-f]{64}`"):
        fetched()
