"""The checkpoints that open_clip lists of an architecture, each under a tag, and the transform of each."""

from __future__ import annotations

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from lineup.encoders import records
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.open_clip_network import NETWORK_FILE
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings


def tag_of_file(spec: EncoderSettings, config: JsonObject) -> str | None:
    """The tag whose transform the weights of a single file get; None for open_clip's default transform.

    Args:
        config: open_clip's settings of the architecture.
    Raises:
        UserError: nothing states which transform the file was trained with.
    """
    listed = {
        tag: open_clip.get_pretrained_cfg(spec.name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(spec.name)
    }
    if spec.transform and spec.transform in listed:
        check_activation(spec, spec.transform, listed[spec.transform], config)
    transforms = {
        tag: transform_settings(record, spec)
        for tag, record in listed.items()
        if _activation(record) == _activation(config)
    }
    if transforms:
        return records.tag(spec, transforms)
    if spec.transform:
        raise UserError(f"transform: open_clip lists no checkpoint of {spec.name}; set mean and std instead")
    if spec.weights != "none" and not (spec.mean and spec.std):
        default = PreprocessCfg()
        raise UserError(
            f"mean and std are missing: open_clip lists no checkpoint of {spec.name} that states them; "
            f"set those that the file was trained with (open_clip's default is mean: {[*default.mean]} and "
            f"std: {[*default.std]}), or name a folder that has its {NETWORK_FILE}"
        )
    return None


def transform_settings(record: JsonObject, spec: EncoderSettings) -> JsonObject:
    """A record's settings of the transform, with the row's own mean and std where it states them."""
    stated = merge_preprocess_dict(PreprocessCfg(), record)
    return stated | {"mean": list(spec.mean or stated["mean"]), "std": list(spec.std or stated["std"])}


def check_activation(spec: EncoderSettings, tag: str, record: JsonObject, config: JsonObject) -> None:
    """Raises UserError if a tag's network has another activation than the architecture that the row names."""
    if _activation(record) != _activation(config):
        other = spec.name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{spec.name}-quickgelu"
        raise UserError(
            f"name: {tag} was trained with another activation than {spec.name}'s; use name: {other}"
        )


def _activation(settings: JsonObject) -> str:
    return "QuickGELU" if settings.get("quick_gelu") else "GELU"
