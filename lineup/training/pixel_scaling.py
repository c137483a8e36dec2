"""How an encoder sees pixels: the size of its input, and the scale of its values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image

from lineup.encoders.encoder import Encoder
from lineup.errors import UserError


@dataclass(frozen=True)
class PixelScaling:
    """How an encoder sees pixels.

    Args:
        size: the side of the square that it sees, in pixels.
        mean, std: float32 [3, 1, 1], by which pixels in 0..1 are scaled.
    """

    size: int
    mean: torch.Tensor
    std: torch.Tensor

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] of 0..255 -> float32, scaled as the encoder's own transform does."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def infer_scaling(encoder: Encoder, image_size: int | None) -> PixelScaling:
    """How an encoder scales pixels, inferred from its transform of a black and of a white image.

    This works for the transforms of every library.

    Args:
        encoder: the fetched one.
        image_size: the size to train at, in pixels; None for the encoder's own.
    Raises:
        UserError: the network takes images of its own size only.
    """
    side = 64
    black, white = (encoder.transform(Image.new("RGB", (side, side), (value,) * 3)) for value in (0, 255))
    std = 1 / (white - black).mean(dim=(1, 2))
    mean = -black.mean(dim=(1, 2)) * std
    size = image_size or min(black.shape[1:])
    if image_size:
        try:
            with torch.inference_mode():
                encoder.module.eval()(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError):
            raise UserError(
                f"image_size is {size}, but this network takes {min(black.shape[1:])} only; leave it out"
            ) from None
    return PixelScaling(size, mean[:, None, None], std[:, None, None])
