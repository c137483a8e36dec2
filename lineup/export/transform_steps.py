"""A checkpoint's transform in the few steps that lineup_row.py knows: resize and crop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from lineup.encoders.encoder import Encoder, Transform
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.export.handed_over import lineup_row

Step = dict[str, Any]

# Steps that only turn 8-bit pixels into scaled numbers, which lineup_row.py does by itself.
_SCALING = {
    "ToTensor",
    "PILToTensor",
    "MaybeToTensor",
    "MaybePILToTensor",
    "ConvertImageDtype",
    "ToDtype",
    "Normalize",
    "MaybeConvertMode",
    "_convert_to_rgb",
}
# Image processors of transformers that scale the pixels first, and so resize fractions.
_SCALES_FIRST = ("DINOv3ViT",)
_CONVNEXT_CROPS_BELOW_PX = 384
# The largest mean difference from the checkpoint's own transform, in levels of 255. Libraries round to 8 bits
# differently, by less than a level; another interpolation or crop differs by tens on noise.
MOST_LEVELS = 1.0
_SAMPLE_SIZES = ((97, 61), (50, 120), (640, 480), (333, 512))


def steps(row: str, encoder: Encoder) -> list[Step]:
    """The steps of a model's transform, as settings.json has them.

    Raises:
        UserError: the transform has a step that lineup_row.py lacks.
    """
    processor = getattr(encoder.transform, "processor", None)
    try:
        listed = _of_processor(processor) if processor is not None else _of_pipeline(encoder.transform)
    except _UnknownStep as unknown:
        raise UserError(
            f"models.{row}: its transform has {unknown}, which an exported folder can't compute; "
            "export a row with another checkpoint"
        ) from None
    difference = most_different(listed, encoder)
    if difference > MOST_LEVELS:
        raise UserError(
            f"models.{row}: its transform can't be written as {listed} (pixels differ by {difference:.1f} of "
            "255 levels on average); export a row with another checkpoint"
        )
    return listed


def scaling(config: EncoderConfig) -> dict[str, list[float]]:
    """Mean and std per channel, of pixels in 0..1."""
    return {"mean": [float(value) for value in config.mean], "std": [float(value) for value in config.std]}


def most_different(listed: list[Step], encoder: Encoder) -> float:
    """The largest mean difference between the steps and the transform on pictures of noise, in levels."""
    settings: Mapping[str, Any] = {"steps": listed, **scaling(encoder.config)}
    std = np.array(settings["std"])[:, None, None]
    random = np.random.default_rng(0)
    largest = 0.0
    for width, height in _SAMPLE_SIZES:
        coarse = random.integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        gap = np.abs(lineup_row.transform(image, settings) - encoder.transform(image).numpy())
        largest = max(largest, float((gap * std * 255).mean()))
    return largest


class _UnknownStep(Exception):
    """A transform's step that has no counterpart; the message names it."""


def _of_pipeline(transform: Transform) -> list[Step]:
    """Of a Compose by torchvision, timm or open_clip."""
    listed: list[Step] = []
    for step in getattr(transform, "transforms", [transform]):
        name = getattr(step, "__name__", type(step).__name__)
        if name == "Resize" and getattr(step, "max_size", None) is None:
            listed.append(_resize(step.size, step.interpolation.value))
        elif name == "CenterCrop":
            height, width = step.size
            listed.append({"step": "crop", "size": [width, height]})
        elif name not in _SCALING:
            raise _UnknownStep(f"the step {name}")
    return listed


def _resize(size: int | tuple[int, ...] | list[int], interpolation: str) -> Step:
    if isinstance(size, int):
        return {"step": "resize", "shorter_side_px": size, "interpolation": interpolation}
    if len(size) == 1:
        return _resize(size[0], interpolation)
    height, width = size
    return {"step": "resize", "size": [width, height], "interpolation": interpolation}


def _of_processor(processor: Any) -> list[Step]:
    """Of an image processor by transformers."""
    name = type(processor).__name__
    if not getattr(processor, "do_rescale", False) or getattr(processor, "do_pad", False):
        raise _UnknownStep(f"the image processor {name}")
    listed: list[Step] = []
    size = {key: value for key, value in dict(processor.size or {}).items() if value}
    crop = dict(getattr(processor, "crop_size", None) or {})
    if getattr(processor, "do_resize", False):
        interpolation = Image.Resampling(int(processor.resample)).name.lower()
        if "shortest_edge" in size and getattr(processor, "crop_pct", None):
            listed += _of_convnext(size["shortest_edge"], processor.crop_pct, interpolation)
        elif set(size) == {"shortest_edge"}:
            listed.append(_resize(size["shortest_edge"], interpolation))
        elif set(size) == {"height", "width"}:
            listed.append(_resize((size["height"], size["width"]), interpolation))
        else:
            raise _UnknownStep(f"the size {size}")
    if name.startswith(_SCALES_FIRST):
        listed = [step | {"values": "float32"} for step in listed]
    if getattr(processor, "do_center_crop", False):
        listed.append({"step": "crop", "size": [crop["width"], crop["height"]], "half_pixel": "down"})
    return listed


def _of_convnext(side: int, share: float, interpolation: str) -> list[Step]:
    """ConvNeXT's processor crops small pictures from a larger size, and squeezes large ones."""
    if side >= _CONVNEXT_CROPS_BELOW_PX:
        return [_resize((side, side), interpolation)]
    crop = {"step": "crop", "size": [side, side], "half_pixel": "down"}
    return [_resize(int(side / share), interpolation), crop]
