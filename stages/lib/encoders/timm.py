"""timm's networks, without their classifier."""

from __future__ import annotations

from typing import Any

import timm
import timm.data
from torch import nn

from stages.lib import encoders
from stages.lib.encoders import Fetched, Transform, weights
from stages.lib.errors import UserError, nearest
from stages.lib.params import Encoder

_DATA_CONFIG = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


def fetch(spec: Encoder) -> Fetched:
    scheme, _, tag = spec.weights.partition(":")
    name = f"{spec.name.partition('.')[0]}.{tag}" if tag and scheme == "hub" else spec.name
    _check_name(name)
    try:
        module = timm.create_model(name, pretrained=scheme == "hub", num_classes=0)
    except Exception as error:  # of urllib, requests, huggingface_hub, ...: timm lets any of them through
        if scheme != "hub":
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"weights: timm can't get those of {name} ({reason}); `dvc pull` them from a teammate, or name a file:") from None
    file = None
    if scheme in ("package", "file"):
        file = weights.read(weights.find(spec.weights), spec.sha256)
        weights.assign(module, file.tensors, spec.match)
    trained: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    record = f"{trained['architecture']}.{trained['tag']}"
    config = timm.data.resolve_model_data_config(module)
    size = spec.image_size or config["input_size"][-1]
    options = _resize(module, name, config["input_size"][-1], size)
    transform = {key: _plain(config[key]) for key in _DATA_CONFIG} | {"input_size": [3, size, size]}
    transform |= {"mean": list(spec.mean or config["mean"]), "std": list(spec.std or config["std"])}
    facts: dict[str, Any] = {
        "library": "timm",
        "name": spec.name,
        "architecture": trained["architecture"],
        "options": options,
        "source": {
            "weights": spec.weights,
            "record": record,
            "sha256": file.sha256 if file else None,
        },
        "random": scheme == "none",
        "image_size": size,
        "mean": transform["mean"],
        "std": transform["std"],
        "transform": transform,
        "licence": trained.get("license") if scheme == "hub" else None,  # another file may have another licence
        "versions": encoders.versions("timm", "torchvision"),  # timm's transforms are made of torchvision's
    }
    return Fetched(module, {**facts, **encoders.measure(module, size)})


def build(facts: dict[str, Any]) -> nn.Module:
    """The network up to its pooled features: float32 [B, 3, H, W] -> [B, D]."""
    return timm.create_model(facts["architecture"], pretrained=False, num_classes=0, **facts["options"])


def transform(facts: dict[str, Any]) -> Transform:
    """timm's own transform for evaluation, from its record of how the checkpoint was trained."""
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in facts["transform"].items()}
    return timm.data.create_transform(**config, is_training=False)  # type: ignore[return-value]


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UserError(f"name: timm has no model '{architecture}'{_nearest(architecture)}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(f"name: timm has no weights '{tag}' for {architecture}{nearest(tag, tags)}")


def _nearest(word: str) -> str:
    told = nearest(word, timm.list_models())
    return told if "did you mean" in told else "; `python -c 'import timm; print(timm.list_models())'` lists them"


def _resize(module: nn.Module, name: str, made_for: int, size: int) -> dict[str, Any]:
    """Fits a network that takes one image size only to another; returns the arguments that build it so."""
    if size == made_for or not module.pretrained_cfg.get("fixed_input_size", False):  # type: ignore[union-attr]
        return {}
    try:
        module.set_input_size(img_size=(size, size))  # type: ignore[operator]
    except (AttributeError, AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"image_size: {name} takes {made_for} px only ({error}); leave image_size out") from None
    return {"img_size": size}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
