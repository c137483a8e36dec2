"""timm's networks, without their classifier."""

from __future__ import annotations

import inspect
import json
from functools import partial
from typing import Any

import timm
import timm.data
from safetensors import SafetensorError
from torch import nn

from stages.lib import encoders
from stages.lib.encoders import Fetched, Transform, hub, weights
from stages.lib.errors import UserError, nearest
from stages.lib.params import Encoder

REPOSITORY = "hf-hub:"
_FILES = ("model.safetensors", "open_clip_model.safetensors")
_DATA_CONFIG = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


def fetch(spec: Encoder) -> Fetched:
    scheme, _, tag = spec.weights.partition(":")
    name = f"{spec.name.partition('.')[0]}.{tag}" if tag and scheme == "hub" else spec.name
    if not name.startswith(REPOSITORY):
        _check_name(name)
    snapshot = _snapshot(name, spec) if scheme == "hub" else None
    module, arguments = _pretrained(name, snapshot, spec) if snapshot else (timm.create_model(name, pretrained=False, num_classes=0), {})
    file = None
    if scheme in ("package", "file"):
        file = weights.read(weights.find(spec.weights), spec.sha256)
        weights.assign(module, file.tensors, spec.match)
    trained: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    record = ".".join(filter(None, (trained["architecture"], trained.get("tag"))))
    config = timm.data.resolve_model_data_config(module)
    size = spec.image_size or config["input_size"][-1]
    options = arguments | _resize(module, name, config["input_size"][-1], size, arguments)
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
            **(snapshot.source() if snapshot else {"sha256": file.sha256 if file else None}),
        },
        "random": scheme == "none",
        "image_size": size,
        "mean": transform["mean"],
        "std": transform["std"],
        "transform": transform,
        # A file of one's own may have another licence than timm's record says.
        "licence": (snapshot.licence() or trained.get("license")) if snapshot else None,
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


def _snapshot(name: str, spec: Encoder) -> hub.Snapshot:
    """The repository that a model's weights are in, always as safetensors."""
    record: Any = None if name.startswith(REPOSITORY) else timm.get_pretrained_cfg(name)
    repository = record.hf_hub_id if record else name.removeprefix(REPOSITORY)
    if not repository:
        raise UserError(f"weights: timm has {name} on no hub, only at {record.url}; get that file and name it: file:, with sha256:")
    found = hub.snapshot(repository, spec.revision, ("config.json", *_FILES))
    if not found.has(*_FILES):
        raise UserError(
            f"weights: {repository} has no safetensors, and pickled weights are never opened; convert a copy and name it with file:"
        )
    return found


def _pretrained(name: str, snapshot: hub.Snapshot, spec: Encoder) -> tuple[nn.Module, dict[str, Any]]:
    """The network in float32 with the weights of a snapshot, and the arguments that build it."""
    arguments: dict[str, Any] = {}
    file = next(snapshot.folder / file for file in _FILES if snapshot.has(file))
    if spec.sha256:
        weights.read(file, spec.sha256)
    overlay: dict[str, Any] | None = {"file": str(file), "custom_load": False}  # custom_load is for files that are no state dicts
    if name.startswith(REPOSITORY):
        arguments = {key: value for key, value in (_described(snapshot).get("model_args") or {}).items() if key != "num_classes"}
        name, overlay = f"local-dir:{snapshot.folder}", None
    make: Any = partial(timm.create_model, name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    try:
        return encoders.empty(make).float(), arguments
    except (RuntimeError, KeyError, FileNotFoundError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"weights: timm can't load {snapshot.repository} ({reason})") from None


def _described(snapshot: hub.Snapshot) -> dict[str, Any]:
    """A repository's config.json, as timm's push_to_hf_hub writes it. timm would guess how its images are prepared; we don't."""
    try:
        content = json.loads((snapshot.folder / "config.json").read_text(encoding="utf-8"))
        known = content["architecture"] and {"input_size", "mean", "std"} <= content.get("pretrained_cfg", content).keys()
    except (OSError, ValueError, KeyError, AttributeError):
        known = False
    if not known:
        raise UserError(
            f"name: config.json of {snapshot.repository} lacks a timm architecture with input_size, mean and std; choose another"
        )
    return content


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


def _resize(module: Any, name: str, made_for: int, size: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Fits a network that takes one image size only to another; returns the arguments that build it so, on top of `arguments`."""
    if size == made_for or not module.pretrained_cfg.get("fixed_input_size", False):
        return {}
    options = {"img_size": size}
    try:
        module.set_input_size(img_size=(size, size), **_trained_window(module))
        built = encoders.empty(partial(timm.create_model, module.pretrained_cfg["architecture"], num_classes=0, **arguments, **options))
    except (AttributeError, AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"image_size: {name} takes {made_for} px only ({error}); leave image_size out") from None
    if _shapes(built) != _shapes(module):
        raise UserError(f"image_size: {name} takes {made_for} px only (its windows change with the size); leave image_size out")
    return options


def _trained_window(module: Any) -> dict[str, Any]:
    """Swin's attention looks at windows of one size, which timm would change with the image's; its weights are for that one."""
    windows = {getattr(part, "window_size", None) for part in module.modules()} - {None}
    takes = inspect.signature(module.set_input_size).parameters
    return {"window_size": windows.pop()} if len(windows) == 1 and {"window_size", "always_partition"} <= takes.keys() else {}


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
