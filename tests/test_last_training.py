"""A training whose last result is in the DVC cache: when it stays, and when the row is trained anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lineup import paths
from lineup.training import loop
from stages import train
from tests.support import dvc_store, project
from tests.support import training_photos as scene
from tests.support.small_encoders import RESNET

MODEL, COSTS = paths.model("row"), paths.costs("train", "row")


class TrainedAgain(Exception):
    """The stage began a training."""


def write_params(folder: Path, **objective: Any) -> None:
    row = {
        "encoder": RESNET,
        "objective": {"name": "arcface", **objective},
        "search": {"metric": "cosine", "index": "flat"},
    }
    content = {"seed": 0, "train": {**scene.FAST, "epochs": 1}, "models": {"row": row}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after one training, as a teammate gets it by `dvc pull`: without the local cache."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        scene.write(folder, scene.photos())
        scene.write_encoder(folder / paths.weights("row"))
        write_params(folder, blend=0.5)
        train.main(["--row", "row"])
    dvc_store.start(folder)
    dvc_store.store(folder, "train@row", MODEL, COSTS)
    shutil.rmtree(folder / paths.CACHE)
    return folder


@pytest.fixture
def clone(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, where DVC has removed the outs because the stage is to run."""
    folder = tmp_path / "clone"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / MODEL)
    (folder / COSTS).unlink()
    monkeypatch.chdir(folder)

    def train_again(*arguments: object) -> None:
        raise TrainedAgain

    monkeypatch.setattr(loop, "train", train_again)
    return folder


@pytest.mark.slow
def test_it_stays_where_nothing_has_changed_that_decides_the_weights(clone: Path, trained: Path) -> None:
    write_params(clone, blend=0.5, max_minutes=7)
    train.main(["--row", "row"])
    assert project.tree(clone / MODEL) == project.tree(trained / MODEL)
    assert (clone / COSTS).read_bytes() == (trained / COSTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"margin": 0.4}, {"blend": 0.25}, {"epochs": 2}])
def test_another_training_begins(clone: Path, change: dict[str, Any]) -> None:
    write_params(clone, **{"blend": 0.5, **change})
    with pytest.raises(TrainedAgain):
        train.main(["--row", "row"])
    assert not (clone / MODEL).exists()


@pytest.mark.slow
def test_a_training_that_the_deadline_stopped_goes_on(clone: Path, trained: Path) -> None:
    costs = json.loads((trained / COSTS).read_text())
    assert costs["finished"]
    (clone / COSTS).write_text(json.dumps({**costs, "finished": False}))
    shutil.copytree(trained / MODEL, clone / MODEL)
    dvc_store.store(clone, "train@row", MODEL, COSTS)
    with pytest.raises(TrainedAgain):
        train.main(["--row", "row"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "encoder.json", "log.csv"])
def test_a_damaged_result_is_not_used(clone: Path, trained: Path, name: str) -> None:
    stored = (trained / MODEL / name).read_bytes()
    (file,) = (
        path
        for path in (clone / dvc_store.OBJECTS).rglob("*")
        if path.is_file() and path.read_bytes() == stored
    )
    file.write_bytes(stored[:-1] + b"\x01")
    with pytest.raises(TrainedAgain):
        train.main(["--row", "row"])
    assert not (clone / MODEL).exists()
