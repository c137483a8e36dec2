"""timm's networks, without their classifier."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from torch import nn

from lineup.encoders import hub, records, weights
from lineup.encoders.encoder import Fetched, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.meta_init import on_meta_device
from lineup.errors import UserError, explained, suggest
from lineup.settings.encoder import EncoderSettings

REPOSITORY = "hf-hub:"
_FOLDER = "local-dir:"  # timm's prefix for a repository's files in a folder
_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
_FILES = ("config.json", *_WEIGHTS)


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
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
    trained: JsonObject = module.pretrained_cfg  # type: ignore[assignment]
    with explained(f"name: timm can't tell from its record how {spec.name} prepares photos"):
        settings = _transform(trained, spec)
    native_px, size = trained["input_size"][-1], settings["input_size"][-1]
    options = arguments | _resize(module, spec.name, native_px, size, arguments)
    measured = measure(module, size)
    config = EncoderConfig(
        library="timm",
        name=spec.name,
        architecture=trained["architecture"],
        options=options,
        source={
            "weights": spec.weights,
            "record": ".".join(filter(None, (trained["architecture"], trained.get("tag")))),
            **(snapshot.source() if snapshot else {"sha256": file.sha256 if file else None}),
        },
        random=spec.weights == "none",
        image_size=size,
        mean=settings["mean"],
        std=settings["std"],
        transform=settings,
        licence=_licence(snapshot, trained),
        versions=versions("timm", "torchvision"),  # timm's transforms are made of torchvision's
        dim=measured.dim,
        gflops=measured.gflops,
    )
    return Fetched(module, config)


def build(config: EncoderConfig) -> nn.Module:
    """The network up to its pooled features: float32 [B, 3, H, W] -> [B, D]."""
    return timm.create_model(config.architecture, pretrained=False, num_classes=0, **config.options)


def transform(config: EncoderConfig) -> Transform:
    """timm's own transform for evaluation, from its record of how the checkpoint was trained."""
    settings = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.transform.items()
    }
    return timm.data.create_transform(**settings, is_training=False)  # type: ignore[return-value]


def _licence(snapshot: hub.Snapshot | None, trained: JsonObject) -> str | None:
    """None for a single file, which may have another licence than timm's record states."""
    if snapshot is None:
        return None
    stated = snapshot.licence() or trained.get("license")
    return stated if isinstance(stated, str) else None


def _source(spec: EncoderSettings) -> tuple[hub.Snapshot | None, str]:
    """The repository with the weights, and the name by which timm creates the network.

    The repository is None for weights from a single file, or random ones.
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
                f"weights: {spec.weights} doesn't go with name: {spec.name}; name one tag, in either of them"
            )
        tag = rest
    _check_name(architecture, tag)
    if scheme != "hub":
        return None, _with_tag(architecture, records.tag(spec, _transforms(architecture, tag, spec)))
    name = _with_tag(architecture, tag)
    record: Any = timm.get_pretrained_cfg(name)
    if not record.hf_hub_id:
        raise UserError(
            f"weights: timm has {name} on no hub, only at {record.url}; "
            "download that file and use weights: file:, with its sha256:"
        )
    return _with_weights(hub.snapshot(record.hf_hub_id, spec.revision, _FILES)), name


def _repository(snapshot: hub.Snapshot, spec: EncoderSettings) -> tuple[hub.Snapshot, str]:
    """What `_source` returns for a repository of timm's push_to_hf_hub, or a folder with its files."""
    records.refuse_transform(spec, snapshot.repository)
    return _with_weights(snapshot), f"{_FOLDER}{snapshot.folder}"


def _with_weights(snapshot: hub.Snapshot) -> hub.Snapshot:
    if not snapshot.has(*_WEIGHTS):
        raise UserError(
            f"weights: {snapshot.repository} has no safetensors, and pickled weights are never opened; "
            "convert a copy and use weights: file:"
        )
    return snapshot


def _transforms(architecture: str, tag: str, spec: EncoderSettings) -> dict[str, JsonObject]:
    """The transform that this row would have by each of the architecture's tags, timm's default first.

    Args:
        tag: the only one to list; empty for all.
    """
    default = timm.get_pretrained_cfg(architecture)
    assert default is not None, architecture
    tags = [tag] if tag else sorted(_tags(architecture) or [""], key=lambda other: other != default.tag)
    named = {tag: timm.get_pretrained_cfg(_with_tag(architecture, tag)) for tag in tags}
    return {tag: _transform(record.to_dict(), spec) for tag, record in named.items() if record is not None}


def _transform(record: JsonObject, spec: EncoderSettings) -> JsonObject:
    """A record's transform as timm resolves it, with the row's size, mean and std where it states them."""
    config = {
        key: _plain(value) for key, value in timm.data.resolve_data_config(pretrained_cfg=record).items()
    }
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"name: {spec.name} takes images of {channels} x {height} x {width}, "
            "and only 3 x N x N is supported; choose another"
        )
    size = spec.image_size or width
    return config | {
        "input_size": [3, size, size],
        "mean": list(spec.mean or config["mean"]),
        "std": list(spec.std or config["std"]),
    }


def _pretrained(name: str, snapshot: hub.Snapshot, spec: EncoderSettings) -> tuple[nn.Module, JsonObject]:
    """The network in float32 with the weights of a snapshot, and the arguments that build it."""
    file = next(snapshot.folder / file for file in _WEIGHTS if snapshot.has(file))
    if spec.sha256:
        weights.read(file, spec.sha256)
    arguments = _model_arguments(snapshot) if name.startswith(_FOLDER) else {}
    arguments = {key: value for key, value in arguments.items() if key != "num_classes"}
    # Without this, timm might take another file of the folder, or one that the repository's config.json
    # names.
    overlay = {"source": None, "state_dict": None, "file": str(file), "custom_load": False}
    make: Any = partial(
        timm.create_model, name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
    )
    with explained(f"weights: timm can't load {snapshot.repository}"):
        return on_meta_device(make).float(), arguments


def _model_arguments(snapshot: hub.Snapshot) -> JsonObject:
    """The arguments that build the network, from a config.json as timm's push_to_hf_hub writes it.

    Raises UserError if config.json doesn't say how photos are prepared: timm would guess it.
    """
    content = snapshot.settings("config.json") if snapshot.has("config.json") else {}
    record = content.get("pretrained_cfg", content)
    if (
        not content.get("architecture")
        or not isinstance(record, dict)
        or not {"input_size", "mean", "std"} <= record.keys()
    ):
        raise UserError(
            f"name: config.json of {snapshot.repository} lacks a timm architecture "
            "with input_size, mean and std; choose another"
        )
    arguments = content.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise UserError(
            f"name: model_args in config.json of {snapshot.repository} must be settings by name; "
            "choose another"
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
    """The tags of the weights that timm lists for an architecture."""
    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def _with_tag(architecture: str, tag: str) -> str:
    return f"{architecture}.{tag}" if tag else architecture


def _nearest(word: str) -> str:
    """A hint at the closest name, else at how to list the thousand or so that there are."""
    hint = suggest(word, timm.list_models())
    return (
        hint
        if "did you mean" in hint
        else "; `python -c 'import timm; print(timm.list_models())'` lists them"
    )


def _resize(module: Any, name: str, native_px: int, size: int, arguments: JsonObject) -> JsonObject:
    """Changes a network that takes images of `native_px` pixels only to take images of `size` pixels.

    Returns:
        the arguments that build such a network, on top of `arguments`.
    """
    if size == native_px or not module.pretrained_cfg.get("fixed_input_size", False):
        return {}
    options = {"img_size": size}
    try:
        module.set_input_size(img_size=(size, size), **_trained_window(module))
        built = on_meta_device(
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
            f"image_size: {name} takes {native_px} px only ({error}); leave image_size out"
        ) from None
    if _shapes(built) != _shapes(module):
        raise UserError(
            f"image_size: {name} takes {native_px} px only (its windows change with the size); "
            "leave image_size out"
        )
    return options


def _trained_window(module: Any) -> JsonObject:
    """The argument that keeps the size of Swin's attention windows, which its weights are for.

    timm would change it with the size of the image. Empty for networks without such windows.
    """
    windows = {getattr(part, "window_size", None) for part in module.modules()} - {None}
    takes = inspect.signature(module.set_input_size).parameters
    return (
        {"window_size": windows.pop()}
        if len(windows) == 1 and {"window_size", "always_partition"} <= takes.keys()
        else {}
    )


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _plain(value: Any) -> Any:
    """A value as JSON reads it back."""
    return list(value) if isinstance(value, tuple) else value
