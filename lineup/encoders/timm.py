"""timm's networks, without their classifier."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import timm
import timm.data
from torch import nn

from lineup.encoders import encoder as encoders
from lineup.encoders import hub, records, weights
from lineup.encoders.encoder import Fetched, Transform
from lineup.errors import UserError, explained, suggest
from lineup.settings.params import Encoder

REPOSITORY = "hf-hub:"
_FOLDER = "local-dir:"  # timm's own word for a repository's files in a folder
_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
_FILES = ("config.json", *_WEIGHTS)


def fetch(spec: Encoder) -> Fetched:
    snapshot, name = _source(spec)
    module, arguments = (
        _pretrained(name, snapshot, spec)
        if snapshot
        else (timm.create_model(name, pretrained=False, num_classes=0), {})
    )
    file = None
    if not snapshot and spec.weights != "none":
        file = weights.read(weights.find(spec.weights), spec.sha256)
        weights.assign(module, file.tensors, spec.assign_by)
    trained: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    with explained(f"name: timm can't tell from its record how {spec.name} prepares photos"):
        how = _transform(trained, spec)
    made_for, size = trained["input_size"][-1], how["input_size"][-1]
    options = arguments | _resize(module, spec.name, made_for, size, arguments)
    facts: dict[str, Any] = {
        "library": "timm",
        "name": spec.name,
        "architecture": trained["architecture"],
        "options": options,
        "source": {
            "weights": spec.weights,
            "record": ".".join(filter(None, (trained["architecture"], trained.get("tag")))),
            **(snapshot.source() if snapshot else {"sha256": file.sha256 if file else None}),
        },
        "random": spec.weights == "none",
        "image_size": size,
        "mean": how["mean"],
        "std": how["std"],
        "transform": how,
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
    config = {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts["transform"].items()
    }
    return timm.data.create_transform(**config, is_training=False)  # type: ignore[return-value]


def _source(spec: Encoder) -> tuple[hub.Snapshot | None, str]:
    """The repository that the weights are in, null for a single file or none.

    And the name by which timm creates the network.
    """
    scheme, _, rest = spec.weights.partition(":")
    if spec.name.startswith(REPOSITORY):
        return _repository(hub.snapshot(spec.name.removeprefix(REPOSITORY), spec.revision, _FILES), spec)
    if scheme == "file" and Path(rest).expanduser().is_dir():
        return _repository(hub.folder(rest, _FILES), spec)
    architecture, _, tag = spec.name.partition(".")
    if scheme == "hub" and rest:
        if tag not in ("", rest):
            raise UserError(
                f"weights: {spec.weights} doesn't go with name: {spec.name}; name one tag, in either place"
            )
        tag = rest
    _check_name(architecture, tag)
    if scheme != "hub":
        return None, _with_tag(architecture, records.tag(spec, _transforms(architecture, tag, spec)))
    name = _with_tag(architecture, tag)
    record: Any = timm.get_pretrained_cfg(name)
    if not record.hf_hub_id:
        raise UserError(
            f"weights: timm has {name} on no hub, only at {record.url}; get that file and name it: file:, with sha256:"
        )
    return _with_weights(hub.snapshot(record.hf_hub_id, spec.revision, _FILES)), name


def _repository(snapshot: hub.Snapshot, spec: Encoder) -> tuple[hub.Snapshot, str]:
    """A repository as timm's push_to_hf_hub writes it, or a folder with its files."""
    records.refuse_transform(spec, snapshot.repository)
    return _with_weights(snapshot), f"{_FOLDER}{snapshot.folder}"


def _with_weights(snapshot: hub.Snapshot) -> hub.Snapshot:
    if not snapshot.has(*_WEIGHTS):
        raise UserError(
            f"weights: {snapshot.repository} has no safetensors, and pickled weights are never opened; "
            "convert a copy and name it with file:"
        )
    return snapshot


def _transforms(architecture: str, tag: str, spec: Encoder) -> dict[str, dict[str, Any]]:
    """By tag, how this row would prepare photos.

    Of one tag alone, if there is one. timm's default comes first.
    """
    default = timm.get_pretrained_cfg(architecture)
    assert default is not None, architecture
    tags = [tag] if tag else sorted(_tags(architecture) or [""], key=lambda other: other != default.tag)
    named = {tag: timm.get_pretrained_cfg(_with_tag(architecture, tag)) for tag in tags}
    return {tag: _transform(record.to_dict(), spec) for tag, record in named.items() if record is not None}


def _transform(record: dict[str, Any], spec: Encoder) -> dict[str, Any]:
    """A record's transform as timm resolves it, with the row's own size, mean and std where it names some."""
    config = {
        key: _plain(value) for key, value in timm.data.resolve_data_config(pretrained_cfg=record).items()
    }
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"name: {spec.name} takes images of {channels} x {height} x {width}, and only 3 x N x N is supported; choose another"
        )
    size = spec.image_size or width
    return config | {
        "input_size": [3, size, size],
        "mean": list(spec.mean or config["mean"]),
        "std": list(spec.std or config["std"]),
    }


def _pretrained(name: str, snapshot: hub.Snapshot, spec: Encoder) -> tuple[nn.Module, dict[str, Any]]:
    """The network in float32 with the weights of a snapshot, and the arguments that build it."""
    file = next(snapshot.folder / file for file in _WEIGHTS if snapshot.has(file))
    if spec.sha256:
        weights.read(file, spec.sha256)
    arguments = _model_arguments(snapshot) if name.startswith(_FOLDER) else {}
    arguments = {key: value for key, value in arguments.items() if key != "num_classes"}
    # This very file, as a state dict: timm might take another one of the folder, or what a repository's
    # config.json names.
    overlay = {"source": None, "state_dict": None, "file": str(file), "custom_load": False}
    make: Any = partial(
        timm.create_model, name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
    )
    with explained(f"weights: timm can't load {snapshot.repository}"):
        return encoders.empty(make).float(), arguments


def _model_arguments(snapshot: hub.Snapshot) -> dict[str, Any]:
    """The arguments that a repository's config.json says to build the network with, as timm's push_to_hf_hub
    writes it.

    UserError if it doesn't say how photos are prepared, which timm would guess.
    """
    content = snapshot.settings("config.json") if snapshot.has("config.json") else {}
    record = content.get("pretrained_cfg", content)
    if (
        not content.get("architecture")
        or not isinstance(record, dict)
        or not {"input_size", "mean", "std"} <= record.keys()
    ):
        raise UserError(
            f"name: config.json of {snapshot.repository} lacks a timm architecture with input_size, mean and std; choose another"
        )
    arguments = content.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise UserError(
            f"name: model_args in config.json of {snapshot.repository} must be settings by name; choose another"
        )
    return arguments


def _check_name(architecture: str, tag: str) -> None:
    if not timm.is_model(architecture):
        raise UserError(f"name: timm has no model '{architecture}'{_nearest(architecture)}")
    if tag and tag not in _tags(architecture):
        raise UserError(
            f"name: timm has no weights '{tag}' for {architecture}{suggest(tag, _tags(architecture))}"
        )


def _tags(architecture: str) -> list[str]:
    """Of the weights that timm lists for it."""
    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def _with_tag(architecture: str, tag: str) -> str:
    return f"{architecture}.{tag}" if tag else architecture


def _nearest(word: str) -> str:
    told = suggest(word, timm.list_models())
    return (
        told
        if "did you mean" in told
        else "; `python -c 'import timm; print(timm.list_models())'` lists them"
    )


def _resize(module: Any, name: str, made_for: int, size: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Fits a network that takes one image size only to another.

    Returns the arguments that build it so, on top of `arguments`.
    """
    if size == made_for or not module.pretrained_cfg.get("fixed_input_size", False):
        return {}
    options = {"img_size": size}
    try:
        module.set_input_size(img_size=(size, size), **_trained_window(module))
        built = encoders.empty(
            partial(
                timm.create_model,
                module.pretrained_cfg["architecture"],
                num_classes=0,
                **arguments,
                **options,
            )
        )
    except (AttributeError, AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"image_size: {name} takes {made_for} px only ({error}); leave image_size out"
        ) from None
    if _shapes(built) != _shapes(module):
        raise UserError(
            f"image_size: {name} takes {made_for} px only (its windows change with the size); leave image_size out"
        )
    return options


def _trained_window(module: Any) -> dict[str, Any]:
    """Swin's attention looks at windows of one size, which timm would change with the image's.

    Its weights are for that one.
    """
    windows = {getattr(part, "window_size", None) for part in module.modules()} - {None}
    takes = inspect.signature(module.set_input_size).parameters
    return (
        {"window_size": windows.pop()}
        if len(windows) == 1 and {"window_size", "always_partition"} <= takes.keys()
        else {}
    )


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
