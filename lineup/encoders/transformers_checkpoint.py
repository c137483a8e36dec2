"""A checkpoint of transformers: its repository, its config.json, and its network with the weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from lineup.encoders import hub
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.hub_snapshot import Snapshot
from lineup.encoders.transformers_network import model_class, without_pooler
from lineup.errors import UserError, explained
from lineup.settings.encoder import EncoderSettings

# What every `from_pretrained` gets: nothing is fetched, and no code of a checkpoint is run.
LOCAL: JsonObject = {"local_files_only": True, "trust_remote_code": False}
# Pickles are missing in this list, and so they are not even downloaded.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "*.spm",
)
_CLS_PARAMETERS = ("cls_token", "class_token", "class_embedding")


def load_snapshot(spec: EncoderSettings) -> Snapshot:
    """The row's repository. Raises UserError if it lacks what transformers needs."""
    scheme, _, rest = spec.weights.partition(":")
    patterns = ("config.json", *_WEIGHTS, *_PROCESSOR, *_TOKENIZER)
    if scheme not in ("hub", "file"):
        raise UserError(
            f"weights: {spec.weights} is not for transformers, whose networks come with a checkpoint; "
            "use hub or file:<folder>"
        )
    if spec.sha256 is not None:
        raise UserError(
            "sha256 is for one file, and transformers takes a repository; "
            "pin it with revision: <commit> instead"
        )
    snapshot = (
        hub.snapshot(spec.name, spec.revision, patterns) if scheme == "hub" else hub.folder(rest, patterns)
    )
    _check_files(snapshot, spec)
    return snapshot


def _check_files(snapshot: Snapshot, spec: EncoderSettings) -> None:
    if not snapshot.has("config.json"):
        raise UserError(
            f"name: {snapshot.repository} has no config.json, so it is not for transformers; "
            "perhaps for timm or open_clip"
        )
    if not snapshot.has(*_PROCESSOR):
        raise UserError(
            f"name: {snapshot.repository} doesn't say how its images are prepared (no {_PROCESSOR[0]}); "
            "choose a checkpoint that does, or add the file to a copy of it and use weights: file:"
        )
    for name in ("config.json", *_PROCESSOR):
        if snapshot.has(name):
            snapshot.settings(name)
    if not snapshot.has("model.safetensors", "model.safetensors.index.json"):
        raise UserError(
            f"weights: {snapshot.repository} has no model.safetensors, and pickled weights are never opened; "
            f"{hub.safetensors_elsewhere(spec.name)}, or convert a copy and use weights: file:"
        )


def load_config(snapshot: Snapshot) -> PreTrainedConfig:
    """The content of config.json. Raises UserError if transformers knows no network for it."""
    with explained(f"name: transformers {transformers.__version__} can't load {snapshot.repository}"):
        try:
            config = AutoConfig.from_pretrained(snapshot.folder, **LOCAL)
            model_class(config)
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise UserError(
                f"name: {snapshot.repository} needs code of its own, which is never run; "
                "choose another checkpoint"
            ) from None
    return config


def load_model(snapshot: Snapshot, config: PreTrainedConfig, pooling: str | None) -> PreTrainedModel:
    """The network in float32.

    Raises UserError if a tensor is missing, which transformers would fill with random numbers, or if the
    network has no class token for `pooling: cls`.
    """
    with explained(f"weights: transformers can't load {snapshot.repository}"):
        model, info = AutoModel.from_pretrained(
            snapshot.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL,
            **without_pooler(config, pooling),
        )
    missing = sorted(info["missing_keys"])
    if missing:
        hint = (
            "; use pooling: cls or mean"
            if pooling == "pooler" and any("pooler" in name for name in missing)
            else ""
        )
        raise UserError(
            f"weights: {snapshot.repository} has no tensor for {', '.join(missing[:3])} "
            f"({len(missing)} missing){hint}"
        )
    if pooling == "cls" and not any(name.endswith(_CLS_PARAMETERS) for name, _ in model.named_parameters()):
        raise UserError(
            f"pooling: cls is for networks with a class token, and {config.model_type} has none; "
            "use mean or pooler"
        )
    return model.eval()


def without_origin(settings: Any) -> Any:
    """Settings without the folder that they were read from and the version of transformers that read them."""
    if isinstance(settings, dict):
        return {
            key: without_origin(value)
            for key, value in settings.items()
            if key not in ("_name_or_path", "transformers_version")
        }
    return settings
