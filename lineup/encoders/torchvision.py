"""torchvision's classification networks, without their last layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision import models
from torchvision import transforms as T
from torchvision.models.vision_transformer import interpolate_embeddings

from lineup.encoders import encoder as encoders
from lineup.encoders import hub, records, weights
from lineup.encoders.encoder import Fetched, Transform
from lineup.errors import UserError, suggest
from lineup.settings.params import Encoder

# Settings that a checkpoint's own builder makes and that aren't among its tensors.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}
# The argument by which a network that is made for one image size is told another.
_SIZE_ARGUMENT = {"vit": "image_size", "maxvit": "input_size"}


class _Checkpoint(NamedTuple):
    """record: torchvision's entry on how it was trained; file: null for random weights."""

    record: models.WeightsEnum
    file: weights.WeightsFile | None


def fetch(spec: Encoder) -> Fetched:
    known = models.list_models(module=models)
    if spec.name not in known:
        raise UserError(
            f"name: torchvision has no classification model '{spec.name}'{suggest(spec.name, known)}"
        )
    record, file = _checkpoint(spec)
    how = _transform(record.transforms(), spec)
    size = how["crop"]
    facts: dict[str, Any] = {
        "library": "torchvision",
        "name": spec.name,
        "options": _options(spec.name, size),
        "source": {"weights": spec.weights, "record": str(record), "sha256": file.sha256 if file else None},
        "random": file is None,
        "image_size": size,
        "mean": how["mean"],
        "std": how["std"],
        "transform": how,
        "licence": None,  # torchvision records none per checkpoint
        "versions": encoders.versions("torchvision"),
    }
    module = build(facts)
    if file:
        weights.assign(module, _resized(spec.name, size, file.tensors), spec.assign_by)
    return Fetched(module, {**facts, **encoders.measure(module, size)})


def build(facts: dict[str, Any]) -> nn.Module:
    """The network up to the input of its last layer: float32 [B, 3, H, W] -> [B, D]."""
    try:
        module = models.get_model(facts["name"], weights=None, **facts["options"])
    except (ValueError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"image_size: torchvision can't build {facts['name']} for {facts['image_size']} px ({error})"
        ) from None
    layers = list(module.named_modules())
    # SqueezeNet's classifier is a convolution before its pooling; every other network ends in a linear layer.
    linear = [name for name, layer in layers if isinstance(layer, nn.Linear)]
    last = linear or [name for name, layer in layers if isinstance(layer, nn.Conv2d)]
    parent, _, leaf = last[-1].rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return module


def transform(facts: dict[str, Any]) -> Transform:
    """The steps of torchvision's own preset for classification: shorter side to `resize`, centre crop, mean
    and std.
    """
    how = facts["transform"]
    return T.Compose(
        [
            T.Resize(how["resize"], T.InterpolationMode(how["interpolation"]), antialias=how["antialias"]),
            T.CenterCrop(how["crop"]),
            T.PILToTensor(),
            T.ConvertImageDtype(torch.float32),
            T.Normalize(how["mean"], how["std"]),
        ]
    )


def _transform(preset: Any, spec: Encoder) -> dict[str, Any]:
    """A record's transform, with the row's own size, mean and std where it names some."""
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    size = spec.image_size or crop
    return {
        "resize": resize if size == crop else round(size * resize / crop),
        "crop": size,
        "interpolation": preset.interpolation.value,
        "antialias": preset.antialias,
        "mean": list(spec.mean or preset.mean),
        "std": list(spec.std or preset.std),
    }


def _options(name: str, size: int) -> dict[str, Any]:
    argument = _SIZE_ARGUMENT.get(name.partition("_")[0])
    return dict(_OPTIONS.get(name, {})) | (
        {} if argument is None else {argument: size if argument == "image_size" else [size, size]}
    )


def _resized(name: str, size: int, tensors: weights.Tensors) -> weights.Tensors:
    """A vision transformer's position embeddings for another image size."""
    if not name.startswith("vit_"):
        return tensors
    patch = int(name.rpartition("_")[2])
    try:
        return dict(interpolate_embeddings(size, patch, {**tensors}))  # type: ignore[arg-type]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"weights: the file's position embeddings don't fit {name} at {size} px ({error})"
        ) from None


def _checkpoint(spec: Encoder) -> _Checkpoint:
    listed = {record.name: record for record in models.get_model_weights(spec.name)}
    scheme, _, tag = spec.weights.partition(":")
    if scheme == "hub":
        if tag and tag not in listed:
            raise UserError(f"weights: torchvision has no '{tag}' for {spec.name}{suggest(tag, listed)}")
        record = listed[tag] if tag else models.get_model_weights(spec.name)["DEFAULT"]
        return _Checkpoint(record, weights.read(*download(record.url, spec.sha256)))
    file = None if scheme == "none" else weights.read(weights.find(spec.weights), spec.sha256)
    if file and not spec.transform:
        for record in listed.values():
            if file.sha256.startswith(_hash_prefix(record.url)):
                return _Checkpoint(record, file)
    transforms = {name: _transform(record.transforms(), spec) for name, record in listed.items()}
    return _Checkpoint(listed[records.tag(spec, transforms)], file)


def _hash_prefix(url: str) -> str:
    """torchvision's files are named after the first digits of their SHA-256."""
    found = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    return found.group(1) if found else "no hash"


def download(url: str, sha256: str | None = None) -> tuple[Path, str]:
    """The file of one of torchvision's URLs, by way of torch.hub's cache, and its hash once it was checked."""
    prefix = _hash_prefix(url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with hub.told(path.name, hub=url.rpartition("/")[0]):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    actual = weights.digest(path)
    if not actual.startswith(prefix):
        raise UserError(
            f"weights: {path} is damaged (its SHA-256 begins {actual[:8]}, not {prefix}); remove it and run again"
        )
    return path, sha256 or actual
