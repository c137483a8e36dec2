"""`python -m stages.train` as DVC runs it, in a project that has training images and no test images at all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from lineup import paths, source_code, stage_code
from lineup.encoders import encoder_config, encoder_folder, model_folder
from lineup.errors import UserError
from lineup.settings import label_share
from lineup.storage import files
from lineup.training import cache_key
from lineup.training import checkpoint as checkpoints
from stages import embed, embed_train, train
from tests.support import project
from tests.support import training_photos as scene
from tests.support.small_encoders import RESNET

# Code of rows with LoRA or an adapter alone, and of weights that are taken from the DVC cache.
OF_SOME_ROWS = (
    "lineup/adapters/",
    "lineup/embedding/",
    "lineup/encoders/adapter.py",
    "lineup/engines/",
    "lineup/photos/calibration_photos.py",
    "lineup/photos/prepared_images.py",
    "lineup/training/weights/",
)


def params(objective: dict[str, Any], **encoder: Any) -> dict[str, Any]:
    defaults = {**scene.FAST, "epochs": 2}
    row = {
        "encoder": RESNET | encoder,
        "objective": objective,
        "search": {"metric": "cosine", "index": "flat"},
    }
    return {"seed": 0, "train": defaults, "models": {"row": row}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scene.write(tmp_path, scene.photos())
    scene.write_encoder(tmp_path / paths.weights("row"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_params(folder: Path, objective: dict[str, Any], **encoder: Any) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params(objective, **encoder)), encoding="utf-8")


def command(folder: Path) -> subprocess.Popen[bytes]:
    environment = project.environment(PYTHONPATH=str(project.ROOT), OMP_NUM_THREADS="1")
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train", "--row", "row"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
    )


def test_no_objective_points_to_the_weights_and_copies_none(folder: Path) -> None:
    write_params(folder, {"name": "none"})
    fetched = project.tree(folder / paths.weights("row"))
    train.main(["--row", "row"])
    model = project.tree(folder / paths.model("row"))
    assert model["log.csv"] == b"epoch,loss,map_at_r,learning_rate,drawn,drawn_so_far,idle\n"
    assert model.keys() == {"log.csv", model_folder.POINTER_FILE} and sum(map(len, model.values())) < 500
    assert model_folder.resolve(paths.model("row")) == paths.weights("row")
    assert project.tree(folder / paths.weights("row")) == fetched
    assert json.loads((folder / paths.costs("train", "row")).read_text()) == {
        "row": "row",
        "minutes": 0.0,
        "note": None,
    }


@pytest.mark.slow
def test_a_trained_row_has_its_own_folder_also_where_it_pointed_to_weights_before(folder: Path) -> None:
    for objective in ({"name": "none"}, {"name": "arcface"}):
        write_params(folder, objective)
        train.main(["--row", "row"])
    assert model_folder.resolve(paths.model("row")) == paths.model("row")


def test_a_pointer_to_weights_that_have_changed_is_refused(folder: Path) -> None:
    write_params(folder, {"name": "none"})
    train.main(["--row", "row"])
    encoder = folder / paths.weights("row") / encoder_config.CONFIG_FILE
    files.write_json(encoder, {"weights_sha256": "f" * 64})
    with pytest.raises(
        UserError, match=r"^data/models/row: points to other weights than data/weights/row holds"
    ):
        model_folder.resolve(paths.model("row"))
    encoder.unlink()
    with pytest.raises(UserError, match=r"^data/weights/row/encoder.json: "):
        model_folder.resolve(paths.model("row"))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_pointer_that_is_damaged_is_refused(folder: Path, content: str) -> None:
    file = folder / paths.model("row") / model_folder.POINTER_FILE
    file.parent.mkdir(parents=True)
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"^data/models/row/pointer.json: is damaged; "):
        model_folder.resolve(paths.model("row"))


@pytest.mark.slow
def test_no_objective_needs_no_torch(folder: Path) -> None:
    write_params(folder, {"name": "none"})
    code = (
        "import sys; from stages import train; train.main(['--row', 'row']); sys.exit('torch' in sys.modules)"
    )
    project.run(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(project.ROOT))


@pytest.mark.slow
def test_a_share_of_the_labels_is_all_that_a_training_sees(folder: Path) -> None:
    write_params(
        folder, {"name": "arcface", "label_share": 0.5, "labels_per_batch": 3, "images_per_epoch": 6}
    )
    train.main(["--row", "row"])
    costs = json.loads((folder / paths.costs("train", "row")).read_text())
    seen = label_share.chosen([f"thing_{label}" for label in range(10)], 0.5, 0)
    assert costs["labelled_photos"] == 20 and len(costs["labels"]) == 3  # two more labels validate
    assert {*costs["labels"]} < seen and len(seen) == 5


@pytest.mark.slow
def test_a_row_is_trained_and_says_how(folder: Path) -> None:
    write_params(folder, {"name": "arcface", "scale": 16, "dim": 12, "images_per_epoch": 16})
    assert not (folder / "data/prepared/test").exists(), "no test image can reach a training"
    train.main(["--row", "row"])
    loaded = encoder_folder.load(folder / paths.model("row"))
    before = encoder_folder.load(folder / paths.weights("row"))
    assert loaded.dim == 12 and loaded.config.weights_sha256 != before.config.weights_sha256
    trained = loaded.config.trained
    assert trained and trained["encoder"]["weights_sha256"] == before.config.weights_sha256
    assert trained["objective"] == {
        "name": "arcface",
        "scale": 16,
        "margin": 0.5,
        "class_vectors": "imprinted",
    }
    with (folder / paths.model("row") / "log.csv").open() as file:
        log = list(csv.DictReader(file))
    assert (
        [entry["epoch"] for entry in log] == ["0", "1", "2"]
        and log[0]["loss"] == ""
        and 0 < float(log[2]["map_at_r"]) <= 1
    )
    assert [(float(entry["drawn"]), float(entry["drawn_so_far"])) for entry in log] == [
        (0, 0),
        (0.5, 0.5),
        (0.5, 1),
    ]
    costs = json.loads((folder / paths.costs("train", "row")).read_text())
    assert [entry["epoch"] for entry in costs["curve"]] == [0, 1, 2] and all(
        entry["seconds"] > 0 for entry in costs["curve"]
    )
    assert (
        costs["epochs"] == 2
        and 0 < costs["minutes"] < 60
        and costs["images_per_second"] > 0
        and costs["device"]
    )


@pytest.mark.slow
def test_equal_trainings_give_the_same_bytes_interrupted_or_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole folder: what was measured stands in the costs."""
    write_params(folder, {"name": "arcface", "epochs": 3})
    train.main(["--row", "row"])
    first = project.tree(folder / paths.model("row"))
    save = checkpoints.save

    def dies_after_the_second_epoch(*state: Any) -> None:
        save(*state)
        if state[1].epoch == 2:
            raise KeyboardInterrupt

    for interrupted in (False, True):
        shutil.rmtree(folder / paths.CACHE)
        shutil.rmtree(folder / paths.model("row"))
        if interrupted:
            monkeypatch.setattr(checkpoints, "save", dies_after_the_second_epoch)
            with pytest.raises(KeyboardInterrupt):
                train.main(["--row", "row"])
            monkeypatch.undo()
            monkeypatch.chdir(folder)
        train.main(["--row", "row"])
        assert project.tree(folder / paths.model("row")) == first


@pytest.mark.slow
def test_settings_that_decide_nothing_keep_the_result_and_others_don_t(folder: Path) -> None:
    def cached() -> set[str]:
        train.main(["--row", "row"])
        return {path.name for path in (folder / paths.CACHE / "training").iterdir()}

    write_params(folder, {"name": "arcface"})
    first = cached()
    write_params(folder, {"name": "arcface", "max_minutes": 7, "memory_mb": 900, "margin": 0.5})
    assert cached() == first
    write_params(folder, {"name": "arcface", "margin": 0.4})
    assert len(cached()) == 2


def trained_weights(folder: Path) -> bytes:
    train.main(["--row", "row"])
    return (folder / paths.model("row") / encoder_folder.WEIGHTS_FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"image_size": 48}, {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}],
    ids=["image_size", "mean and std"],
)
def test_an_encoder_that_sees_photos_otherwise_is_trained_anew(folder: Path, change: dict[str, Any]) -> None:
    """With the same weights, which a changed image_size doesn't touch."""
    write_params(folder, {"name": "arcface"})
    first = trained_weights(folder)
    before = encoder_folder.load(folder / paths.weights("row")).config.weights_sha256
    scene.write_encoder(folder / paths.weights("row"), **change)
    write_params(folder, {"name": "arcface"}, **change)
    assert encoder_folder.load(folder / paths.weights("row")).config.weights_sha256 == before
    second = trained_weights(folder)
    shutil.rmtree(folder / paths.CACHE)
    assert trained_weights(folder) == second != first


@pytest.mark.slow
def test_code_that_dvc_trains_again_for_decides_what_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(folder, {"name": "arcface"})
    digested: list[str] = []
    monkeypatch.setattr(
        cache_key,
        "code_digest",
        lambda *files: digested.extend(str(file.relative_to(project.ROOT)) for file in files) or "",
    )
    train.main(["--row", "row"])
    monkeypatch.chdir(project.ROOT)
    parts = ("timm", "timm_checkpoint", "timm_image_size", "timm_tags")
    encoder = {f"lineup.encoders.{part}" for part in parts}
    modules = stage_code.STAGES["train"].modules() | encoder | {"lineup.objectives.arcface"}
    files_of_stage = {source_code.file_of(module).as_posix() for module in modules}
    of_stage = {file for file in files_of_stage if not file.startswith(OF_SOME_ROWS)}
    assert {*digested} == of_stage - {
        "stages/train.py",
        "lineup/encoders/origin.py",
        "lineup/objectives/none.py",
        *(f"lineup/training/{name}.py" for name in ("costs", "log_file", "notes")),
        "lineup/settings/label_share.py",  # the key has the labels that it chose
        *(
            f"lineup/settings/{name}.py"
            for name in ("adapter", "metric_loss", "objective", "trained_objectives", "training")
        ),
    }


@pytest.mark.slow
def test_a_users_mistake_ends_in_one_sentence(folder: Path) -> None:
    write_params(folder, {"name": "arcface", "labels_per_batch": 50})
    process = command(folder)
    message = process.communicate()[1].decode()
    assert process.returncode == 1
    assert message.splitlines()[-1].startswith(
        "error: params.yaml: models.row.objective: labels_per_batch is 50, but there are 8 labels"
    )
    assert "Traceback" not in message


@pytest.mark.slow
def test_what_cant_be_trained_is_refused_before_torch_is_loaded(folder: Path) -> None:
    write_params(folder, {"name": "arcface", "labels_per_batch": 50})
    code = """
import sys
from stages import train
from lineup.errors import UserError
try:
    train.main(["--row", "row"])
except UserError as error:
    sys.exit(3 if "torch" in sys.modules else 0 if "labels_per_batch is 50" in str(error) else 4)
"""
    project.run(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(project.ROOT))


@pytest.mark.slow
def test_killed_at_any_point_it_ends_with_the_same_bytes(folder: Path) -> None:
    """SIGKILL after its first checkpoint, and again after the next one."""
    write_params(folder, {"name": "contrastive", "epochs": 6, "images_per_epoch": 256})
    process = command(folder)
    assert process.wait() == 0
    whole = (folder / paths.model("row") / encoder_folder.WEIGHTS_FILE).read_bytes()
    for path in (folder / paths.CACHE / "training").iterdir():
        (path / "checkpoint.safetensors").unlink()
    (folder / paths.model("row") / encoder_folder.WEIGHTS_FILE).unlink()
    killed = 0
    for _ in range(2):
        seen = {
            path: path.stat().st_mtime_ns for path in (folder / paths.CACHE).rglob("checkpoint.safetensors")
        }
        process = command(folder)
        while process.poll() is None:
            now = {
                path: path.stat().st_mtime_ns
                for path in (folder / paths.CACHE).rglob("checkpoint.safetensors")
            }
            if now and now != seen:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.005)
        process.wait()
    assert killed == 2 and not (folder / paths.model("row") / encoder_folder.WEIGHTS_FILE).exists()
    assert command(folder).wait() == 0
    assert (folder / paths.model("row") / encoder_folder.WEIGHTS_FILE).read_bytes() == whole


@pytest.mark.parametrize("objective", ["none", "arcface"])
@pytest.mark.parametrize("change", [{"image_size": 48}, {"name": "test_vit"}, {"weights": "hub"}])
def test_weights_of_another_row_are_not_trained(folder: Path, objective: str, change: dict[str, Any]) -> None:
    """As a run cache hands them back into which they were put under this row's name."""
    write_params(folder, {"name": objective}, **change)
    with pytest.raises(
        UserError,
        match=r"data/weights/row: says that it holds test_resnet of timm with weights none at 32 px, which row "
        r"'row' does not name; run `dvc repro -f -s fetch@row`",
    ):
        train.main(["--row", "row"])
    assert not paths.model("row").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [embed, embed_train])
def test_a_model_of_another_row_is_not_embedded(folder: Path, stage: ModuleType) -> None:
    """Its encoder, its objective and its settings each have to be the row's."""
    others = {
        "train": [
            {"name": "none"},
            {"name": "softmax"},
            {"name": "arcface", "margin": 0.1},
            {"name": "arcface", "learning_rate": 0.5},
        ],
        "fetch": [{"name": "arcface"}],
    }
    write_params(folder, {"name": "arcface"})
    train.main(["--row", "row"])
    for source, objectives in others.items():
        for objective in objectives:
            write_params(folder, objective, **({"name": "test_vit"} if source == "fetch" else {}))
            with pytest.raises(UserError, match=rf"says that it .*; run `dvc repro -f -s {source}@row`"):
                stage.main(["--row", "row"])
    write_params(folder, {"name": "none"})
    train.main(["--row", "row"])
    write_params(folder, {"name": "arcface"})
    with pytest.raises(
        UserError, match=r"models/row: says that it was trained otherwise .*; run `dvc repro -f -s train@row`"
    ):
        stage.main(["--row", "row"])
