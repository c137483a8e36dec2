"""Which of a library's records says how the photos of a row are prepared, where its weights come from a file.

A library lists several checkpoints of most networks, each under a tag and with a transform of its own. A file
doesn't say which of them it is like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lineup.errors import UserError, suggest
from lineup.settings.params import Encoder

_SHOWN = 4


def tag(spec: Encoder, transforms: Mapping[str, Mapping[str, Any]]) -> str:
    """The tag whose transform the row's weights get: the one that the row names, or any where all are equal.

    transforms: by tag, at least one, each with the row's own image_size, mean and std.
    UserError if the row names none and they differ, or if it names one that the library doesn't list.
    """
    first = next(iter(transforms))
    if spec.transform is not None:
        if spec.transform not in transforms:
            raise UserError(
                f"transform: {spec.library} lists no '{spec.transform}' for {spec.name}{suggest(spec.transform, transforms)}"
            )
        return spec.transform
    if spec.weights == "none" or all(transform == transforms[first] for transform in transforms.values()):
        return first
    raise UserError(
        f"transform is missing: the checkpoints that {spec.library} lists for {spec.name} were trained with different ones "
        f"({_differences(transforms)}); name the tag that your file's training started from, such as transform: {first}"
    )


def refuse_transform(spec: Encoder, repository: str) -> None:
    """UserError if the row names a transform although its weights are a repository, which has its own."""
    if spec.transform:
        raise UserError(
            f"transform: {spec.transform} is for a single file, and {repository} has its own transform; remove it"
        )


def _differences(transforms: Mapping[str, Mapping[str, Any]]) -> str:
    """A tag of each kind, with the settings in which the kinds differ."""
    kinds: dict[str, str] = {}
    every = list(transforms.values())
    differing = [name for name in every[0] if any(transform[name] != every[0][name] for transform in every)]
    for tag, transform in transforms.items():
        kinds.setdefault(", ".join(f"{name} {transform[name]}" for name in differing), tag)
    shown = [f"{tag}: {settings}" for settings, tag in list(kinds.items())[:_SHOWN]]
    return "; ".join([*shown, *([f"{len(kinds) - _SHOWN} more"] if len(kinds) > _SHOWN else [])])
