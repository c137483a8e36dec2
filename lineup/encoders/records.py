"""The library's record whose transform the weights of a single file get.

A library lists several checkpoints of most networks, each under a tag and with a transform of its own. A file
doesn't tell which of them it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lineup.errors import UserError, suggest
from lineup.settings.encoder import EncoderSettings

_MAX_SHOWN_TAGS = 4


def tag(spec: EncoderSettings, transforms: Mapping[str, Mapping[str, Any]]) -> str:
    """The tag that the row names, or the first one where the transforms of all tags are equal.

    Args:
        transforms: by tag, at least one, each with the row's own image_size, mean and std.
    Raises:
        UserError: the row names no tag and the transforms differ, or it names one that the library doesn't
        list.
    """
    first = next(iter(transforms))
    if spec.transform is not None:
        if spec.transform not in transforms:
            raise UserError(
                f"transform: {spec.library} lists no '{spec.transform}' for {spec.name}"
                f"{suggest(spec.transform, transforms)}"
            )
        return spec.transform
    if spec.weights == "none" or all(transform == transforms[first] for transform in transforms.values()):
        return first
    raise UserError(
        f"transform is missing: the checkpoints that {spec.library} lists for {spec.name} were trained with "
        f"different ones ({_differences(transforms)}); "
        f"set the tag that your file's training started from, such as transform: {first}"
    )


def _differences(transforms: Mapping[str, Mapping[str, Any]]) -> str:
    """The first tag with each distinct transform, and the settings in which the transforms differ."""
    tag_by_settings: dict[str, str] = {}
    every = list(transforms.values())
    differing = [name for name in every[0] if any(transform[name] != every[0][name] for transform in every)]
    for tag, transform in transforms.items():
        tag_by_settings.setdefault(", ".join(f"{name} {transform[name]}" for name in differing), tag)
    shown = [f"{tag}: {settings}" for settings, tag in list(tag_by_settings.items())[:_MAX_SHOWN_TAGS]]
    more = len(tag_by_settings) - _MAX_SHOWN_TAGS
    return "; ".join([*shown, *([f"{more} more"] if more > 0 else [])])
