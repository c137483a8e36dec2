"""The checkpoint of timm that a row names: the network with its weights, and where they are from."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import timm
from torch import nn

from lineup.encoders import hub, records, weights
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.hub_snapshot import Snapshot
from lineup.encoders.meta_init import on_meta_device
from lineup.encoders.timm_tags import check_name, transforms_by_tag, with_tag
from lineup.errors import UserError, explained
from lineup.settings.encoder import EncoderSettings

_FOLDER = "local-dir:"  # timm's prefix for a repository's files in a folder
_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
_FILES = ("config.json", *_WEIGHTS)


class Checkpoint(NamedTuple):
    """What a row names.

    Attributes:
        module: the network without its classifier, with its weights.
        arguments: what builds it beside its architecture.
        source: see `EncoderConfig.source`.
    """

    module: nn.Module
    arguments: JsonObject
    source: JsonObject
    licence: str | None


def load_checkpoint(spec: EncoderSettings) -> Checkpoint:
    """The network that the row names, with the weights of a repository, of a file, or random ones."""
    snapshot, name = _repository_and_name(spec)
    if snapshot:
        module, arguments = _pretrained(name, snapshot, spec)
        licence = snapshot.licence() or module.pretrained_cfg.get("license")  # type: ignore[operator, union-attr]
        return Checkpoint(module, arguments, snapshot.source(), licence if isinstance(licence, str) else None)
    module = timm.create_model(name, pretrained=False, num_classes=0)
    if spec.weights == "none":
        return Checkpoint(module, {}, {"sha256": None}, None)
    file = weights.read(weights.find(spec.weights), spec.sha256)
    weights.assign(module, file.tensors, spec.assign_by)
    # A single file may have another licence than timm's record states.
    return Checkpoint(module, {}, {"sha256": file.sha256}, None)


def _repository_and_name(spec: EncoderSettings) -> tuple[Snapshot | None, str]:
    """The repository with the weights, and the name by which timm creates the network.

    The repository is None for weights from a single file, or random ones.
    """
    repository = hub.named_repository(spec, _FILES)
    if repository:
        return _with_weights(repository), f"{_FOLDER}{repository.folder}"
    scheme, _, rest = spec.weights.partition(":")
    architecture, _, tag = spec.name.partition(".")
    if scheme == "hub" and rest:
        if tag not in ("", rest):
            raise UserError(
                f"weights: {spec.weights} doesn't go with name: {spec.name}; name one tag, in either of them"
            )
        tag = rest
    check_name(architecture, tag)
    if scheme != "hub":
        return None, with_tag(architecture, records.tag(spec, transforms_by_tag(architecture, tag, spec)))
    name = with_tag(architecture, tag)
    record: Any = timm.get_pretrained_cfg(name)
    if not record.hf_hub_id:
        raise UserError(
            f"weights: timm has {name} on no hub, only at {record.url}; "
            "download that file and use weights: file:, with its sha256:"
        )
    return _with_weights(hub.snapshot(record.hf_hub_id, spec.revision, _FILES)), name


def _with_weights(snapshot: Snapshot) -> Snapshot:
    if not snapshot.has(*_WEIGHTS):
        raise UserError(
            f"weights: {snapshot.repository} has no safetensors, and pickled weights are never opened; "
            "convert a copy and use weights: file:"
        )
    return snapshot


def _pretrained(name: str, snapshot: Snapshot, spec: EncoderSettings) -> tuple[nn.Module, JsonObject]:
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


def _model_arguments(snapshot: Snapshot) -> JsonObject:
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
