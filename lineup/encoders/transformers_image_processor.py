"""transformers' image processors: one is loaded with a row's own settings, and turns a photo into pixels."""

from __future__ import annotations

import json
from typing import Any

import numpy.typing as npt
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor

from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.hub_snapshot import Snapshot
from lineup.encoders.transformers_checkpoint import LOCAL, without_origin
from lineup.errors import UserError, explained
from lineup.settings.encoder import EncoderSettings


class Processed:
    """RGB image -> float32 [3, H, W] by an image processor.

    Attributes:
        transforms: the same in two steps, as torchvision's Compose has them.
    """

    def __init__(self, processor: Any) -> None:
        self.processor, self.transforms = processor, (self._sized, Rescaled(processor))

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image -> float32 [3, H, W]."""
        return _pixels(self.processor, image)

    def _sized(self, image: Image.Image) -> npt.NDArray[Any]:
        """[H, W, RGB], of 8 bits where the processor resizes 8-bit images."""
        return _pixels(self.processor, image, do_rescale=False, do_normalize=False).permute(1, 2, 0).numpy()


class Rescaled:
    """RGB image -> float32 [3, H, W] of the same size: an image processor's last step alone."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._off = {
            step: False
            for step in ("do_resize", "do_center_crop", "do_pad")
            if getattr(processor, step, None)
        }

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image -> float32 [3, H, W]."""
        return _pixels(self._processor, image, **self._off)


def _pixels(processor: Any, image: Image.Image, **options: bool) -> torch.Tensor:
    """The processor's output for one image: [3, H, W], float32 unless an option says otherwise."""
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def to_settings(processor: Any) -> JsonObject:
    """The processor's class and settings, of which `from_settings` makes the same processor again."""
    return {"processor": type(processor).__name__, **without_origin(json.loads(processor.to_json_string()))}


def from_settings(settings: JsonObject) -> Any:
    """The processor whose settings `to_settings` gave."""
    arguments = dict(settings)
    return getattr(transformers, arguments.pop("processor")).from_dict(arguments)


def load_processor(snapshot: Snapshot, spec: EncoderSettings) -> Any:
    """The checkpoint's image processor, with the row's own size, mean and std where it states them."""
    with explained(f"name: the image processor of {snapshot.repository} can't be loaded"):
        processor: Any = AutoImageProcessor.from_pretrained(snapshot.folder, **LOCAL)
    if not getattr(processor, "do_normalize", True):  # it may state a mean and std nevertheless
        processor.do_normalize = bool(spec.mean or spec.std)
        processor.image_mean, processor.image_std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "image_mean", None) is None or getattr(processor, "image_std", None) is None:
        raise UserError(
            f"mean: the image processor of {snapshot.repository} names no mean and std; "
            "choose another checkpoint"
        )
    if spec.image_size:
        _resize(processor, spec.image_size)
    processor.image_mean = list(spec.mean or processor.image_mean)
    processor.image_std = list(spec.std or processor.image_std)
    return processor


def _resize(processor: Any, size: int) -> None:
    """Sets another size of the image; a size before cropping is scaled in proportion."""
    crop = dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", False) else {}
    before = {key: value for key, value in dict(processor.size or {}).items() if value}
    native_px = crop.get("height") or before.get("height") or before.get("shortest_edge")
    if native_px is None or not set(before) <= {"height", "width", "shortest_edge"}:
        raise UserError(f"image_size: can't be set for an image processor with size {before}; leave it out")
    processor.size = type(processor.size)(
        **{key: round(value * size / native_px) for key, value in before.items()}
    )
    if crop:
        processor.crop_size = type(processor.crop_size)(height=size, width=size)


def image_size(processor: Any, spec: EncoderSettings) -> int:
    """The side in pixels of the processor's output.

    Raises UserError unless that is a square of one size, whatever the photo.
    """
    with explained(f"name: the image processor of {spec.name} can't prepare a photo"):
        shapes = {
            tuple(_pixels(processor, Image.new("RGB", size, (90, 120, 150))).shape)
            for size in ((96, 64), (50, 80))
        }
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise UserError(
            f"name: the image processor of {spec.name} doesn't give one square RGB image, "
            f"but {sorted(shapes)}; choose another"
        )
    return shape[1]
