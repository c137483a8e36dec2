"""Adapter rows: what they learn, what their vectors are made of, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from lineup import paths
from lineup.adapters import start as starts
from lineup.adapters import whitening
from lineup.adapters.whitening import LabelStatistics
from lineup.embedding import computation, job
from lineup.encoders import adapter, encoder_folder, model_folder
from lineup.encoders.adapter import Adapter
from lineup.errors import UserError
from lineup.settings import params as settings
from lineup.storage import embeddings, parquet
from lineup.training.validation import HeldOut
from stages import embed_train, train
from tests.support import dvc_store, project
from tests.support import training_photos as scene
from tests.support.small_encoders import RESNET

ADAPTER = {"name": "adapter", "labels_per_batch": 4, "learning_rate": 0.01, "epochs": 5}


def write_params(folder: Path, objective: dict[str, Any]) -> None:
    row = {"encoder": RESNET, "search": {"metric": "cosine", "index": "flat"}}
    models = {"row": {**row, "objective": objective}, "base": {**row, "objective": {"name": "none"}}}
    content = {"seed": 0, "train": {"epochs": 1}, "embed": {"engine": "torch"}, "models": models}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scene.write(tmp_path, scene.photos())
    for row in ("row", "base"):
        scene.write_encoder(tmp_path / paths.weights(row))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse_to_compute(*arguments: object) -> None:
    raise AssertionError("the encoder computed a vector again")


@pytest.mark.slow
def test_a_row_learns_and_applies_its_adapter_to_the_encoder_s_cached_vectors(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(folder, ADAPTER)
    train.main(["--row", "row"])
    model = paths.model("row")
    costs = json.loads((folder / paths.costs("train", "row")).read_text())
    curve = [epoch["map_at_r"] for epoch in costs["curve"]]
    assert max(curve[1:]) >= curve[0] and costs["best_epoch"] > 0
    assert project.tree(model).keys() == {"adapter.safetensors", "encoder.json", "log.csv", "pointer.json"}

    monkeypatch.setattr(computation.inference, "vectors", refuse_to_compute)
    for row in ("base", "row"):
        if row == "base":
            train.main(["--row", row])
        embed_train.main(["--row", row])
    base, adapted = (read(paths.embeddings(row, "train")) for row in ("base", "row"))
    learned = adapter.load_adapter(model, encoder_folder.read_config(model))
    matrix = learned.direct.weight.numpy()
    assert not np.allclose(matrix, np.eye(len(matrix)))
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    wanted = (unit - learned.mean.numpy()) @ matrix.T
    np.testing.assert_allclose(adapted, wanted, rtol=1e-3, atol=1e-4)

    network = adapter.load(model_folder.resolve(model))
    assert network.dim == adapted.shape[1] == network.config.dim
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = encoder_folder.load(paths.weights("row")).module
    with torch.inference_mode():
        torch.testing.assert_close(network.module(pixels), learned.float()(whole(pixels)))

    before = project.tree(model)
    train.main(["--row", "row"])
    assert project.tree(model) == before


@pytest.mark.slow
def test_a_clone_takes_the_encoder_s_vectors_from_another_row_s_last_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(folder, {**ADAPTER, "epochs": 1})
    for row in ("base", "row"):
        train.main(["--row", row])
        embed_train.main(["--row", row])
    vectors = project.tree(paths.embeddings("row", "train"))
    dvc_store.start(folder)
    dvc_store.store(folder, "embed_train@base", paths.embeddings("base", "train"))
    for path in (paths.CACHE, paths.embeddings("row", "train"), paths.embeddings("base", "train")):
        shutil.rmtree(folder / path)
    monkeypatch.setattr(computation.inference, "vectors", refuse_to_compute)
    train.main(["--row", "row"])
    embed_train.main(["--row", "row"])
    assert project.tree(paths.embeddings("row", "train")) == vectors


def read(folder: Path) -> np.ndarray:
    batches = parquet.read_shards(folder, ["embedding"], 1_000)
    return np.concatenate([embeddings.vectors_of(rows.column("embedding")) for rows in batches])


def test_vectors_of_a_fresh_and_an_incremental_run_have_the_same_bytes() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((48, 96), (96,), (30, 96), (48, 30))
    direct, mean, hidden, out = (torch.randn(shape, generator=generator) for shape in shapes)
    learned = Adapter(direct, mean, hidden, out)
    vectors = torch.randn(150, 96, generator=generator).numpy()
    at_once = adapter.apply(learned, vectors)
    one_by_one = np.concatenate([adapter.apply(learned, vectors[i : i + 1]) for i in range(len(vectors))])
    assert at_once.tobytes() == one_by_one.tobytes()
    assert adapter.apply(learned, vectors[::-1])[::-1].tobytes() == at_once.tobytes()
    centred = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) - mean.numpy()
    wanted = centred @ direct.numpy().T + np.maximum(centred @ hidden.numpy().T, 0) @ out.numpy().T
    np.testing.assert_allclose(at_once, wanted, rtol=1e-4, atol=1e-3)


def unit_vectors(count: int, dim: int) -> torch.Tensor:
    """Vectors that differ more in some directions than in others."""
    generator = torch.Generator().manual_seed(0)
    return functional.normalize(torch.randn(count, dim, generator=generator) * torch.arange(1.0, dim + 1))


def test_a_whitening_makes_photos_of_one_label_differ_equally_in_all_directions() -> None:
    vectors = unit_vectors(60, 6)
    labels = torch.arange(60) % 7 - 1  # -1 is no label
    start = LabelStatistics(vectors, labels).whitening(0)
    whitened, rows = start(vectors).double().numpy(), labels.numpy()
    centred = np.concatenate([group - group.mean(0) for group in (whitened[rows == n] for n in range(6))])
    within = centred.T @ centred
    np.testing.assert_allclose(within, np.eye(6) * within[0, 0], atol=1e-3 * within[0, 0])
    np.testing.assert_allclose(whitened[rows >= 0].mean(0), 0, atol=1e-5)
    assert np.square(whitened[rows >= 0]).sum(1).mean() == pytest.approx(1, abs=1e-4)


def test_full_shrinkage_subtracts_the_mean_and_no_more() -> None:
    vectors, labels = unit_vectors(60, 6), torch.arange(60) % 5
    matrix = LabelStatistics(vectors, labels).whitening(1).matrix
    torch.testing.assert_close(matrix, matrix[0, 0] * torch.eye(6))


def test_fewer_dimensions_are_those_in_which_whitened_vectors_differ_most() -> None:
    vectors, labels = unit_vectors(60, 6), torch.arange(60) % 5
    statistics = LabelStatistics(vectors, labels)
    whole = statistics.whitening(0.2)
    (narrow,) = statistics.narrowed(whole, [3])
    whitened = whole(vectors).double().numpy()
    _, _, directions = np.linalg.svd(whitened, full_matrices=False)
    wanted, narrowed = whitened @ directions[:3].T, narrow(vectors).double().numpy()
    ratio = np.linalg.norm(narrowed) / np.linalg.norm(wanted)
    np.testing.assert_allclose(np.abs(narrowed), np.abs(wanted) * ratio, atol=1e-4)


def test_an_adapter_that_starts_at_no_whitening_is_the_encoder_or_its_first_principal_directions() -> None:
    vectors = unit_vectors(40, 6)
    whole, narrow = whitening.none(vectors, 6), whitening.none(vectors, 3)
    assert adapter.apply(Adapter(whole.matrix, whole.mean), vectors.numpy()) == pytest.approx(
        vectors.numpy(), abs=1e-6
    )
    _, _, directions = np.linalg.svd(vectors.numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(narrow.matrix.numpy()), np.abs(directions[:3]), atol=1e-4)


def test_the_start_is_the_one_that_held_out_labels_prefer() -> None:
    """Labels differ in the last direction alone, which is the shortest one: only a whitening finds it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 24
    noise = torch.randn(240, 8, generator=generator) * torch.tensor([1.0] * 7 + [0.002])
    vectors = noise + torch.eye(8)[7] * labels[:, None] * 0.02
    held = labels >= 12
    unit = functional.normalize(vectors)
    held_out = HeldOut(labels[held].numpy(), may_choose=True)
    start = starts.choose(unit[~held], labels[~held], unit[held], held_out, 8)
    assert start.name.startswith("whitening")
    no_labels = HeldOut(np.full(int(held.sum()), -1), may_choose=True)
    assert starts.choose(unit[~held], labels[~held], unit[held], no_labels, 8).name.startswith("none")


@pytest.mark.parametrize(
    ("objective", "fault"),
    [
        ({"layers": 3}, "objective: layers is 3, but an adapter has 1 or 2; set layers to 1 or 2"),
        ({"loss": "arcfase"}, "loss is 'arcfase', which an adapter doesn't have; did you mean 'arcface'?"),
        (
            {"loss": "arcface", "arguments": {"margn": 1}},
            "arguments.margn is unknown to arcface; did you mean 'margin'?",
        ),
        (
            {"loss": "arcface", "arguments": {"scale": -1}},
            "arguments.scale is -1: input should be greater than 0",
        ),
        ({"freeze": 1}, "freeze is for a training on photos, and an adapter learns from vectors; remove it"),
        (
            {"lora": {"rank": 4}},
            "lora is for a training on photos, and an adapter learns from vectors; remove",
        ),
        ({"blend": 0.5}, "blend is for a training on photos, and an adapter learns from vectors; remove it"),
        ({"loss": "triplet", "images_per_label": 1}, "images_per_label is 1, but adapter of models.row"),
    ],
)
def test_settings_that_no_adapter_has(folder: Path, objective: dict[str, Any], fault: str) -> None:
    write_params(folder, {"name": "adapter", **objective})
    with pytest.raises(UserError) as error:
        settings.load()
    assert fault in str(error.value)


def test_an_adapter_of_an_encoder_in_int8_is_refused(folder: Path) -> None:
    write_params(folder, {"name": "adapter"})
    file = folder / "params.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["models"]["row"]["precision"] = "int8"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"models.row: its precision is int8, .* set precision: bfloat16"):
        settings.load()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "fault"),
    [
        ({"dim": 4096}, "dim is 4096, but the encoder's vectors have"),
        (
            {"loss": "TripletMargnLoss"},
            "which pytorch-metric-learning doesn't have; did you mean 'TripletMarginLoss'?",
        ),
    ],
)
def test_settings_that_do_not_fit_the_encoder(folder: Path, objective: dict[str, Any], fault: str) -> None:
    write_params(folder, {**ADAPTER, **objective})
    with pytest.raises(UserError) as error:
        train.main(["--row", "row"])
    assert str(error.value).startswith("params.yaml: models.row.objective: ") and fault in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "contrastive", "triplet", "MultiSimilarityLoss"])
def test_every_loss_trains_a_smaller_vector(folder: Path, loss: str) -> None:
    write_params(folder, {**ADAPTER, "loss": loss, "dim": 8, "layers": 2, "epochs": 2})
    train.main(["--row", "row"])
    assert adapter.load(paths.model("row")).dim == 8


@pytest.mark.slow
def test_a_damaged_adapter_is_refused(folder: Path) -> None:
    write_params(folder, {**ADAPTER, "epochs": 1})
    train.main(["--row", "row"])
    file = folder / paths.model("row") / model_folder.ADAPTER_FILE
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"adapter\.safetensors is damaged"):
        job.prepare_job("row", "train", settings.load().embed)
