"""Rows that train by LoRA, and trained weights that are blended with their start."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from lineup import paths
from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder import Encoder
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings
from lineup.settings.training import Lora
from lineup.training import checkpoint as checkpoints
from lineup.training.weights import linear_attention, lora
from lineup.training.weights.blend import blend
from stages import train
from tests.support import hub_repositories, project
from tests.support import training_photos as scene

VIT = {"library": "timm", "name": "test_vit", "weights": "none", "allow_random": True}


def random_encoder(library: str, name: str, **settings: Any) -> Encoder:
    random = {"weights": "none", "allow_random": True}
    spec = EncoderSettings.model_validate({"library": library, "name": name, **random, **settings})
    torch.manual_seed(0)
    fetched = libraries.library(library).fetch(spec)
    return Encoder(
        fetched.module.eval(), libraries.library(library).transform(fetched.config), fetched.config
    )


def torchvision_vit(_: Path) -> Encoder:
    """torchvision's transformer, smaller than any that it has a name for."""
    encoder = random_encoder("torchvision", "mobilenet_v2", image_size=32)
    torch.manual_seed(0)
    module = VisionTransformer(32, 8, 2, 2, 32, 64)
    module.heads = nn.Identity()  # type: ignore[assignment]
    return dataclasses.replace(encoder, module=module.eval())


def of_repository(library: str, make: Any, name: str, pooling: str | None = None) -> Any:
    def encoder(folder: Path) -> Encoder:
        weights = f"file:{make(folder / 'repository')}"
        return random_encoder(library, name, weights=weights, pooling=pooling, allow_random=False)

    return encoder


ENCODERS = {
    "torchvision": torchvision_vit,
    "timm": lambda _: random_encoder("timm", "test_vit"),
    "transformers vit": of_repository("transformers", hub_repositories.vit, "tiny", "cls"),
    "transformers siglip": of_repository("transformers", hub_repositories.siglip, "tiny"),
    "open_clip": of_repository("open_clip", hub_repositories.open_clip_repository, "ViT-B-32"),
}


def vectors(encoder: Encoder) -> torch.Tensor:
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    images = [encoder.transform(Image.fromarray(pixels)) for pixels in noise]
    with torch.no_grad():
        return encoder.module.eval()(torch.stack(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_only_the_matrices_learn_and_merged_they_give_the_same_vectors(name: str, tmp_path: Path) -> None:
    encoder = ENCODERS[name](tmp_path)
    before = {key: tensor.clone() for key, tensor in encoder.module.state_dict().items()}
    pointers = {key: tensor for key, tensor in encoder.module.named_parameters()}
    start = vectors(encoder)
    low_rank = lora.add(encoder, Lora(rank=2, alpha=8), seed=0)
    assert torch.allclose(vectors(encoder), start, atol=1e-4), "untrained matrices change nothing"

    trained = [key for key, tensor in encoder.module.named_parameters() if tensor.requires_grad]
    assert trained and all("lora_" in key for key in trained)
    optimiser = torch.optim.SGD(
        [tensor for tensor in encoder.module.parameters() if tensor.requires_grad], 0.1
    )
    image = torch.stack([encoder.transform(Image.new("RGB", (64, 64), (200, 30, 90)))])
    for _ in range(2):
        vector = encoder.module.train()(image)
        (-vector / vector.detach().norm() * torch.linspace(-1, 1, vector.shape[1])).sum().backward()
        optimiser.step()
    assert all(torch.equal(tensor, before[key]) for key, tensor in pointers.items()), "frozen, bit for bit"

    active = vectors(encoder)
    assert not torch.allclose(active, start, atol=1e-3)
    assert low_rank.merge() is encoder.module
    after = encoder.module.state_dict()
    assert after.keys() == before.keys()
    assert torch.allclose(vectors(encoder), active, rtol=1e-4, atol=1e-4)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all("attn" in key or "attention" in key for key in changed)
    # A matrix of rank 2 was added to each.
    for key in changed:
        difference = (after[key] - before[key]).double()
        singular = torch.linalg.svdvals(difference)
        assert singular[2] < 1e-3 * singular[0], key


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_of_linear_layers_is_pytorchs_own(batch_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    own = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first)
    ours = linear_attention.LinearAttention(own)
    query, other, third = torch.randn(3, 4, 4, 12)
    hidden = torch.ones(4, 4, dtype=torch.bool).triu(1)
    for key, value, mask in [
        (query, query, None),
        (other, other, None),
        (other, third, hidden),
        (query, query, torch.randn(4, 4)),
    ]:
        expected, _ = own(query, key, value, need_weights=False, attn_mask=mask)
        assert torch.allclose(ours(query, key, value, attn_mask=mask)[0], expected, atol=1e-5)


@pytest.mark.slow
def test_layers_are_chosen_by_patterns() -> None:
    encoder = random_encoder("timm", "test_vit")
    lora.add(encoder, Lora(layers=("blocks.0.*", "*.mlp.fc2")), seed=0)
    with_matrices = {
        key.split(".lora_")[0] for key, _ in encoder.module.named_parameters() if ".lora_" in key
    }
    blocks = len(encoder.module.get_submodule("blocks"))  # type: ignore[arg-type]
    first = {f"blocks.0.{layer}" for layer in ("attn.qkv", "attn.proj", "mlp.fc1")}
    assert with_matrices == first | {f"blocks.{number}.mlp.fc2" for number in range(blocks)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "layers", "message"),
    [
        (
            "torchvision",
            "mobilenet_v2",
            None,
            "lora is for transformers, and mobilenet_v2 has no linear layer",
        ),
        ("timm", "test_vit", ["*attn*", "*.atn.*"], r"lora.layers: '\*.atn.\*' matches no layer of test_vit"),
        # It reads its attention's weights without calling the layers.
        (
            "torchvision",
            "swin_t",
            None,
            r"'\*attn\*' matches no layer of swin_t .* such as features.\*.\*.mlp",
        ),
    ],
)
def test_a_network_without_such_layers_is_refused(
    library: str, name: str, layers: list[str] | None, message: str
) -> None:
    settings = Lora.model_validate({} if layers is None else {"layers": layers})
    with pytest.raises(UserError, match=message):
        lora.add(random_encoder(library, name, image_size=None), settings, seed=0)


def test_without_peft_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"run `pip install 'lineup\[lora\]'`"):
        lora.add(random_encoder("timm", "test_vit"), Lora(), seed=0)


def test_a_blend_is_worked_out_by_hand() -> None:
    """Weights, biases and running statistics; the counter of batches is that of the nearer network."""
    start = {
        "weight": torch.tensor([1.0, 2.0]),
        "bias": torch.tensor([0.0, 0.5]),
        "running_mean": torch.tensor([0.0, 4.0]),
        "running_var": torch.tensor([1.0, 3.0]),
        "num_batches_tracked": torch.tensor(3),
    }
    trained = {
        "weight": torch.tensor([3.0, 0.1]),
        "bias": torch.tensor([1.0, 0.5]),
        "running_mean": torch.tensor([8.0, 0.0]),
        "running_var": torch.tensor([2.0, 1.0]),
        "num_batches_tracked": torch.tensor(9),
    }

    def blended(share: float) -> dict[str, torch.Tensor]:
        module = nn.BatchNorm1d(2)
        module.load_state_dict(trained)
        blend(module, start, share)
        return module.state_dict()

    assert all(torch.equal(blended(0)[name], start[name]) for name in start)
    assert all(torch.equal(blended(1)[name], trained[name]) for name in start)
    half, quarter = blended(0.5), blended(0.25)
    assert torch.allclose(half["weight"], torch.tensor([2.0, 1.05]))
    assert half["running_mean"].tolist() == [4, 2] and half["running_var"].tolist() == [1.5, 2]
    assert half["num_batches_tracked"] == 9 and quarter["num_batches_tracked"] == 3
    assert quarter["running_mean"].tolist() == [2, 3] and quarter["bias"].tolist() == [0.25, 0.5]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scene.write(tmp_path, scene.photos(each=2))
    torch.manual_seed(0)
    fetched = libraries.library("timm").fetch(EncoderSettings.model_validate({**VIT, "image_size": 32}))
    config = fetched.config.model_copy(update={"resize_px": 32})
    encoder_folder.save(tmp_path / paths.weights("row"), fetched.module, config)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_row(folder: Path, **objective: Any) -> dict[str, bytes]:
    """The files of the trained row."""
    row = {
        "encoder": {**VIT, "image_size": 32},
        "objective": {"name": "arcface", "scale": 16, **objective},
        "search": {"metric": "cosine", "index": "flat"},
    }
    defaults = {**scene.FAST, "images_per_epoch": 16}
    settings = {"seed": 0, "train": defaults, "models": {"row": row}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    train.main(["--row", "row"])
    return project.tree(folder / paths.model("row"))


@pytest.mark.slow
def test_a_row_with_lora_resumes_and_ends_with_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row: dict[str, Any] = {"lora": {"rank": 4}, "ema": 0.5, "dim": 8, "patience": 5}
    whole = train_row(folder, **row)
    trained = encoder_folder.load(folder / paths.model("row"))
    start = encoder_folder.load(folder / paths.weights("row"))
    assert trained.dim == 8 and trained.config.trained and "lora" in trained.config.trained
    assert trained.config.parameters == start.config.parameters + 8 * start.dim + 8
    mlp = "blocks.1.mlp.fc1.weight"
    assert torch.equal(trained.module.state_dict()[f"0.{mlp}"], start.module.state_dict()[mlp])
    save = checkpoints.save

    def dies_after_the_first_epoch(*state: Any) -> None:
        save(*state)
        raise KeyboardInterrupt

    shutil.rmtree(folder / paths.CACHE)
    monkeypatch.setattr(checkpoints, "save", dies_after_the_first_epoch)
    with pytest.raises(KeyboardInterrupt):
        train_row(folder, **row)
    monkeypatch.setattr(checkpoints, "save", save)
    assert train_row(folder, **row) == whole


@pytest.mark.slow
def test_rows_that_differ_in_blend_alone_share_a_training(folder: Path) -> None:
    def state() -> dict[str, torch.Tensor]:
        return encoder_folder.load(folder / paths.model("row")).module.state_dict()

    start = encoder_folder.load(folder / paths.weights("row")).module.state_dict()
    train_row(folder)
    trained, config = state(), json.loads((folder / paths.model("row") / "encoder.json").read_text())
    assert config["trained"]["settings"].keys().isdisjoint({"lora", "blend"}), "as before there were any"
    train_row(folder, blend=0.5)
    half = state()
    train_row(folder, blend=0)
    assert len([*(folder / paths.CACHE / "training").iterdir()]) == 1
    assert all(torch.equal(start[name], tensor) for name, tensor in state().items())
    for name, tensor in half.items():
        assert torch.allclose(tensor, (start[name] + trained[name]) / 2, atol=1e-6), name
    assert any(not torch.equal(half[name], start[name]) for name in half)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            {"lora": {}, "freeze": 3},
            "models.row.objective: freeze is 3, and lora freezes the network already",
        ),
        (
            {"lora": {}, "backbone_lr_scale": 0},
            "models.row.objective: backbone_lr_scale is 0, and lora freezes",
        ),
        ({"lora": {"rank": 0}}, "models.row.objective.lora.rank is 0"),
        ({"lora": {"ranks": 4}}, r"models.row.objective.lora.ranks is unknown; did you mean 'rank'\?"),
        ({"lora": {"layers": []}}, "models.row.objective.lora.layers is empty"),
        ({"blend": 1.5}, "models.row.objective.blend is 1.5"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        train_row(tmp_path, **objective)
