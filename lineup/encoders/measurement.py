"""What is measured of an encoder when it is fetched: the size and cost of a vector, and how it resizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lineup.encoders.encoder import Transform
from lineup.errors import UserError, explained


class Measurement(NamedTuple):
    """dim: length of a vector; gflops: 10^9 operations for one image, a multiply-add counting as two."""

    dim: int
    gflops: float


def measure(module: nn.Module, image_size: int) -> Measurement:
    """Runs a network on one blank image of image_size x image_size pixels.

    Raises UserError if the network can't take images of this size, gives no single vector per image, or gives
    another vector each time.
    """
    blank = torch.zeros(1, 3, image_size, image_size)
    counter = FlopCounterMode(display=False)
    # The counter would ask for the gradient of a parameter that is passed on as it is, such as the query of
    # an attention pool.
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter doesn't see fused attention
    try:
        with (
            explained(f"image_size: the network can't take {image_size} px"),
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),
            counter,
        ):
            vector = module.eval()(blank)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for parameter in trainable:
            parameter.requires_grad_(True)
    if not isinstance(vector, torch.Tensor) or vector.ndim != 2:
        raise UserError(
            "name: this network gives no single vector per image; "
            "choose an image classification or embedding model"
        )
    _check_repeatable(module, image_size)
    return Measurement(vector.shape[1], round(counter.get_total_flops() / 1e9, 4))


def _check_repeatable(module: nn.Module, image_size: int) -> None:
    noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = module(noise), module(noise)
    if not torch.allclose(first, second, rtol=1e-2, atol=1e-3 * float(first.abs().max())):
        raise UserError(
            "name: this network gives one image another vector each time (a masked autoencoder does); "
            "choose another"
        )


def resize_px(transform: Transform, image_size: int) -> int:
    """The side in pixels to which a transform resizes a photo before it crops `image_size` pixels out of it.

    It is the photo's shorter side. Where a transform squashes a photo, or fits its longer side, it is that
    side. It is measured, and so holds for every library: a square image gets brighter from left to right, and
    the slope of the result's brightness shows the scale.

    Raises UserError if the transform only crops: its vectors would depend on how far `preprocess` has shrunk
    a photo.
    """
    side = 3 * image_size
    across, down = np.meshgrid(np.arange(side) / side, np.arange(side) / side)
    middle = slice(image_size // 4, image_size - image_size // 4)  # without borders that the transform adds

    def transformed(grey: np.ndarray) -> np.ndarray:
        pixels = np.repeat(np.round(grey).astype(np.uint8)[:, :, None], 3, axis=2)
        return transform(Image.fromarray(pixels))[0, middle, middle].double().numpy()

    black, white = transformed(0 * across), transformed(0 * across + 255)
    # Each line begins a little brighter than the one above, so that the rounding to 8 bits cancels out in the
    # mean of all lines.
    brightness = (transformed(240 * across + 15 * down) - black).mean(axis=0) / (white - black).mean(axis=0)
    resized = round(240 / 255 / np.polyfit(np.arange(len(brightness)), brightness, 1)[0])
    if resized == side:
        raise UserError(
            "name: its transform crops photos without resizing them, which is not supported; "
            "choose another checkpoint"
        )
    return resized
