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

from lineup.encoders import records, weights
from lineup.encoders.encoder import Fetched, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.hub_errors import translate_errors
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.errors import UserError, suggest
from lineup.fingerprint import file_digest
from lineup.settings.encoder import EncoderSettings

# Arguments that torchvision sets when it builds a network for a checkpoint.
_OPTIONS: dict[str, JsonObject] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}
# The argument that sets the image size, by the family of networks that accept only one size.
_SIZE_ARGUMENT = {"vit": "image_size", "maxvit": "input_size"}


class _Checkpoint(NamedTuple):
    """record: torchvision's entry on how it was trained; file: None for random weights."""

    record: models.WeightsEnum
    file: weights.WeightsFile | None


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    known = models.list_models(module=models)
    if spec.name not in known:
        raise UserError(
            f"name: torchvision has no classification model '{spec.name}'{suggest(spec.name, known)}"
        )
    record, file = _checkpoint(spec)
    steps = _transform(record.transforms(), spec)
    size = steps["crop"]
    options = _options(spec.name, size)
    module = _network(spec.name, options, size)
    if file:
        weights.assign(module, _resized(spec.name, size, file.tensors), spec.assign_by)
    measured = measure(module, size)
    config = EncoderConfig(
        library="torchvision",
        name=spec.name,
        options=options,
        source={"weights": spec.weights, "record": str(record), "sha256": file.sha256 if file else None},
        random=file is None,
        image_size=size,
        mean=steps["mean"],
        std=steps["std"],
        transform=steps,
        licence=None,  # torchvision states none per checkpoint
        versions=versions("torchvision"),
        dim=measured.dim,
        gflops=measured.gflops,
    )
    return Fetched(module, config)


def build(config: EncoderConfig) -> nn.Module:
    """The network up to the input of its last layer: float32 [B, 3, H, W] -> [B, D]."""
    return _network(config.name, config.options, config.image_size)


def _network(name: str, options: JsonObject, image_size: int) -> nn.Module:
    try:
        module = models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"image_size: torchvision can't build {name} for {image_size} px ({error})") from None
    layers = list(module.named_modules())
    # SqueezeNet's classifier is a convolution before its pooling; every other network ends in a linear layer.
    linear = [name for name, layer in layers if isinstance(layer, nn.Linear)]
    last = linear or [name for name, layer in layers if isinstance(layer, nn.Conv2d)]
    parent, _, leaf = last[-1].rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return module


def transform(config: EncoderConfig) -> Transform:
    """The steps of torchvision's preset for classification.

    The shorter side is resized to `resize`, the centre is cropped, and mean and std are applied.
    """
    steps = config.transform
    return T.Compose(
        [
            T.Resize(
                steps["resize"], T.InterpolationMode(steps["interpolation"]), antialias=steps["antialias"]
            ),
            T.CenterCrop(steps["crop"]),
            T.PILToTensor(),
            T.ConvertImageDtype(torch.float32),
            T.Normalize(steps["mean"], steps["std"]),
        ]
    )


def _transform(preset: Any, spec: EncoderSettings) -> JsonObject:
    """A record's transform, with the row's own size, mean and std where params.yaml sets them."""
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


def _options(name: str, size: int) -> JsonObject:
    argument = _SIZE_ARGUMENT.get(name.partition("_")[0])
    return dict(_OPTIONS.get(name, {})) | (
        {} if argument is None else {argument: size if argument == "image_size" else [size, size]}
    )


def _resized(name: str, size: int, tensors: weights.Tensors) -> weights.Tensors:
    """A file's tensors with a vision transformer's position embeddings interpolated to `size` pixels."""
    if not name.startswith("vit_"):
        return tensors
    patch = int(name.rpartition("_")[2])
    try:
        return dict(interpolate_embeddings(size, patch, {**tensors}))  # type: ignore[arg-type]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"weights: the file's position embeddings don't fit {name} at {size} px ({error})"
        ) from None


def _checkpoint(spec: EncoderSettings) -> _Checkpoint:
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
    """The first digits of a file's SHA-256, from its name, or "no hash", which no digest begins with."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    return match.group(1) if match else "no hash"


def download(url: str, sha256: str | None = None) -> tuple[Path, str]:
    """The file of one of torchvision's URLs, through torch.hub's cache, and a SHA-256 to check it by.

    Args:
        sha256: what the row states. By default, the file's own digest, which must agree with its name.
    """
    prefix = _hash_prefix(url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with translate_errors(path.name, hub=url.rpartition("/")[0]):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    actual = file_digest(path)
    if not actual.startswith(prefix):
        raise UserError(
            f"weights: {path} is damaged (its SHA-256 begins {actual[:8]}, not {prefix}); "
            "remove it and run again"
        )
    return path, sha256 or actual
