"""The checkpoints that timm lists of an architecture, each under a tag, and the transform of each."""

from __future__ import annotations

import timm
import timm.data

from lineup.encoders.encoder_config import JsonObject
from lineup.errors import UserError, suggest
from lineup.settings.encoder import EncoderSettings


def check_name(architecture: str, tag: str) -> None:
    """Raises UserError if timm has no such architecture, or lists no such tag for it."""
    if not timm.is_model(architecture):
        raise UserError(f"name: timm has no model '{architecture}'{_nearest(architecture)}")
    if tag and tag not in _tags(architecture):
        raise UserError(
            f"name: timm has no weights '{tag}' for {architecture}{suggest(tag, _tags(architecture))}"
        )


def _tags(architecture: str) -> list[str]:
    """The tags of the weights that timm lists for an architecture."""
    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def with_tag(architecture: str, tag: str) -> str:
    """The name by which timm knows the two; tag: empty for none."""
    return f"{architecture}.{tag}" if tag else architecture


def _nearest(word: str) -> str:
    """A hint at the closest name, else at how to list the thousand or so that there are."""
    hint = suggest(word, timm.list_models())
    return (
        hint
        if "did you mean" in hint
        else "; `python -c 'import timm; print(timm.list_models())'` lists them"
    )


def transforms_by_tag(architecture: str, tag: str, spec: EncoderSettings) -> dict[str, JsonObject]:
    """The transform that this row would have by each of the architecture's tags, timm's default first.

    Args:
        tag: the only one to list; empty for all.
    """
    default = timm.get_pretrained_cfg(architecture)
    assert default is not None, architecture
    tags = [tag] if tag else sorted(_tags(architecture) or [""], key=lambda other: other != default.tag)
    named = {tag: timm.get_pretrained_cfg(with_tag(architecture, tag)) for tag in tags}
    return {
        tag: transform_settings(record.to_dict(), spec) for tag, record in named.items() if record is not None
    }


def transform_settings(record: JsonObject, spec: EncoderSettings) -> JsonObject:
    """A record's transform as timm resolves it, with the row's size, mean and std where it states them."""
    resolved = timm.data.resolve_data_config(pretrained_cfg=record)
    # As JSON reads it back.
    config = {key: list(value) if isinstance(value, tuple) else value for key, value in resolved.items()}
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
