"""The checkpoint of open_clip that a row names: a repository, an architecture's tag, a file, or none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from lineup.encoders import hub, weights
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.hub_snapshot import Snapshot
from lineup.encoders.open_clip_network import NETWORK_FILE
from lineup.encoders.open_clip_tags import check_activation, tag_of_file
from lineup.errors import UserError, suggest
from lineup.fingerprint import file_digest
from lineup.settings.encoder import EncoderSettings

TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
# What a repository must state of its images; open_clip has defaults for the rest.
_REQUIRED_PREPROCESS = {"mean", "std"}


@dataclass(frozen=True)
class Checkpoint:
    """What a row names.

    Attributes:
        config: open_clip's settings of the architecture, for images of the row's size.
        preprocess: open_clip's settings of the transform.
        file: the weights, None for random ones.
        source: see `EncoderConfig.source`.
        tokenizer: the folder of the checkpoint's own tokenizer; None for the architecture's.
    """

    config: JsonObject
    preprocess: JsonObject
    file: Path | None
    source: JsonObject
    licence: str | None = None
    tokenizer: Path | None = None


def find_checkpoint(spec: EncoderSettings) -> Checkpoint:
    """The checkpoint that the row names, on this machine."""
    snapshot = hub.named_repository(spec, _patterns(spec))
    checkpoint = _repository(snapshot, spec) if snapshot else _of_architecture(spec)
    config = checkpoint.config
    # All weights come from the checkpoint.
    config["vision_cfg"]["timm_model_pretrained"] = config["text_cfg"]["hf_model_pretrained"] = False
    if spec.image_size:
        config["vision_cfg"]["image_size"] = spec.image_size
    return checkpoint


def _repository(snapshot: Snapshot, spec: EncoderSettings) -> Checkpoint:
    """A repository as open_clip's push_to_hf_hub writes it, or a folder with its files."""
    if not snapshot.has(NETWORK_FILE):
        raise UserError(
            f"name: {snapshot.repository} has no {NETWORK_FILE}, so it is not for open_clip; "
            "perhaps for transformers or timm"
        )
    content = snapshot.settings(NETWORK_FILE)
    config: Any = content.get("model_cfg")
    preprocess = content.get("preprocess_cfg")
    has_towers = isinstance(config, dict) and all(
        isinstance(config.get(tower), dict) for tower in ("vision_cfg", "text_cfg")
    )
    if not has_towers or not isinstance(preprocess, dict) or not preprocess.keys() >= _REQUIRED_PREPROCESS:
        missing = "preprocess_cfg with mean and std" if has_towers else "model_cfg"
        raise UserError(
            f"name: {NETWORK_FILE} of {snapshot.repository} lacks {missing}; "
            "choose another checkpoint, or correct a copy of it and use weights: file:"
        )
    tokenizer = snapshot.folder if snapshot.has("tokenizer.json", "tokenizer_config.json") else None
    return Checkpoint(
        config, preprocess, _weights_file(snapshot, spec), snapshot.source(), snapshot.licence(), tokenizer
    )


def _of_architecture(spec: EncoderSettings) -> Checkpoint:
    """One of open_clip's own architectures, with the weights of a tag, of a file, or random ones."""
    config = open_clip.get_model_config(spec.name)
    if config is None:
        raise UserError(
            f"name: open_clip has no architecture '{spec.name}'{suggest(spec.name, open_clip.list_models())}"
        )
    scheme, _, rest = spec.weights.partition(":")
    if scheme == "hub":
        return _tagged(spec, config, rest)
    tag = tag_of_file(spec, config)
    preprocess = open_clip.get_pretrained_cfg(spec.name, tag) if tag else {}
    if scheme == "none":
        return Checkpoint(config, preprocess, None, {"record": tag, "sha256": None})
    path = weights.find(spec.weights)
    weights.read(path, spec.sha256)  # to check the hash, and that the file holds nothing but tensors
    return Checkpoint(config, preprocess, path, {"record": tag, "sha256": file_digest(path)})


def _tagged(spec: EncoderSettings, config: JsonObject, tag: str) -> Checkpoint:
    """One of the architecture's pretrained tags, as open_clip lists them, with its own transform."""
    listed = open_clip.get_pretrained_cfg(spec.name, tag)
    if not listed:
        tags = open_clip.list_pretrained_tags_by_model(spec.name)
        raise UserError(f"weights: open_clip has no '{tag}' for {spec.name}{suggest(tag, tags)}")
    check_activation(spec, tag, listed, config)
    repository, _, file = listed["hf_hub"].rpartition("/")  # pyright: ignore[reportAttributeAccessIssue]
    if not repository:
        raise UserError(
            f"weights: {tag} of {spec.name} is on no hub but {listed['url']}; "
            "download the file and use weights: file:"
        )
    snapshot = hub.snapshot(repository, spec.revision, _patterns(spec, file))
    return Checkpoint(
        config, listed, _weights_file(snapshot, spec, file), snapshot.source(), snapshot.licence()
    )


def _patterns(spec: EncoderSettings, file: str = "") -> tuple[str, ...]:
    """A repository's files that are downloaded; file: the weights that a tag names, if it names any."""
    return (NETWORK_FILE, *TOKENIZER, *_weights_names(spec, file))


def _weights_names(spec: EncoderSettings, file: str) -> list[str]:
    """The files that may hold the weights, best first; file: the one that a tag names, if it names any.

    Pickled weights are among them only where the row vouches for them by their hash.
    """
    names = [f"{Path(file).stem}.safetensors", file] if file else []
    names += ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return [name for name in names if spec.sha256 or name.endswith(".safetensors")]


def _weights_file(snapshot: Snapshot, spec: EncoderSettings, file: str = "") -> Path:
    """The weights in a snapshot. Raises UserError if there are none that may be opened."""
    for name in _weights_names(spec, file):
        path = snapshot.folder / name
        if path.is_file():
            if spec.sha256:
                weights.read(path, spec.sha256)
            return path
    raise UserError(
        f"weights: {snapshot.repository} has no safetensors, "
        "and pickled weights are opened only if you vouch for them with sha256:; "
        "set a revision that has safetensors, or use a copy with weights: file:"
    )
