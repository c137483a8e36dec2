"""Random variation of training images, of a whole batch at once.

Nothing but this file and its encoders uses torchvision.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from lineup.settings.training import Augmentation

_LOG_ASPECT_RATIO = np.log(4 / 3)  # a crop is at most a third longer than wide, or wider than long
_TRIES_PER_CROP = 10
_COLOUR_PROBABILITY = 0.8


class Augment:
    """Varies images at random: crop, flip, colour, blur.

    Args:
        settings: how strongly, and how often.
        size: the side of the images that the network sees, in pixels.
    """

    def __init__(self, settings: Augmentation, size: int) -> None:
        self.settings, self.size = settings, size

    def batch(self, images: npt.NDArray[np.uint8], seed: int) -> torch.Tensor:
        """uint8 [B, 3, S, S] -> uint8 [B, 3, size, size], each image varied on its own.

        Equal seeds give equal images.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # images are small: to wake threads for each costs more than they save
        try:
            return self._vary(torch.from_numpy(images), np.random.default_rng(seed))
        finally:
            torch.set_num_threads(threads)

    def _vary(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        count, side = len(images), images.shape[-1]
        boxes = crop_boxes(count, side, self.settings.crop, rng)
        varied = torch.cat(
            [
                functional.interpolate(
                    image[None, :, top : top + height, left : left + width],
                    (self.size, self.size),
                    mode="bilinear",
                    antialias=True,
                )
                for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True)
            ]
        )
        flipped = torch.from_numpy(rng.random(count) < self.settings.flip)
        varied[flipped] = varied[flipped].flip(-1)
        if self.settings.colour or self.settings.grey:
            varied = jitter_colours(varied, self.settings, rng)
        # The kernel is a tenth of the image wide, as in appendix A of SimCLR's paper.
        kernel = max(3, self.size // 10 | 1)
        for number in np.flatnonzero(rng.random(count) < self.settings.blur).tolist():
            sigma = rng.uniform(0.1, 2.0)
            varied[number] = vision.gaussian_blur(varied[number], [kernel, kernel], [sigma, sigma])
        return varied


def crop_boxes(
    count: int, side: int, smallest_share: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Random boxes within a square, as top, left, height and width: int64 [count, 4].

    Area and the logarithm of the aspect ratio are uniform; where no try fits into the square, the box is all
    of it.

    Args:
        count: how many.
        side: the square's, in pixels.
        smallest_share: of the square's area; with 1, every box is the whole square.
        rng: of the random numbers.
    Source: Szegedy et al., Going Deeper with Convolutions, section 6; torchvision's RandomResizedCrop.
    """
    if smallest_share == 1:
        return np.tile(np.array([0, 0, side, side]), (count, 1))
    shape = (count, _TRIES_PER_CROP)
    lengths = side * np.sqrt(rng.uniform(smallest_share, 1, shape))
    stretch = np.exp(rng.uniform(-_LOG_ASPECT_RATIO, _LOG_ASPECT_RATIO, shape) / 2)
    tries = np.rint(np.stack([lengths / stretch, lengths * stretch], axis=-1)).astype(np.int64)  # [B, T, 2]
    fits = ((tries >= 1) & (tries <= side)).all(axis=-1)
    sizes = tries[np.arange(count), fits.argmax(axis=1)]
    sizes[~fits.any(axis=1)] = side  # pyright: ignore[reportArgumentType] numpy's types lack this axis
    return np.concatenate([rng.integers(0, side - sizes + 1), sizes], axis=1)


def jitter_colours(images: torch.Tensor, settings: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Changes brightness, contrast, saturation and hue of most images, and makes some grey.

    The factors are drawn for each image, the order of the changes for the batch.

    Args:
        images: uint8 [B, 3, H, W].
    Returns:
        uint8 [B, 3, H, W].
    Source: torchvision's ColorJitter.
    """
    strength, count = min(settings.colour, 0.99), len(images)
    changed = torch.from_numpy(rng.random(count) < _COLOUR_PROBABILITY)
    pixels = images.float() / 255
    colours = pixels[changed]
    for change in rng.permutation(4).tolist() if settings.colour else ():
        low, high = (
            (-settings.colour / 4, settings.colour / 4) if change == 3 else (1 - strength, 1 + strength)
        )
        factors = torch.from_numpy(rng.uniform(low, high, len(colours))).float()[:, None, None, None]
        colours = (change_brightness, change_contrast, change_saturation, turn_hue)[change](colours, factors)
    pixels[changed] = colours
    grey = torch.from_numpy(rng.random(count) < settings.grey)
    pixels[grey] = luma(pixels[grey]).expand(-1, 3, -1, -1)
    return pixels.mul_(255).round_().to(torch.uint8)


# What follows takes float32 [B, 3, H, W] of 0..1, and factors of each image: float32 [B, 1, 1, 1].


def luma(pixels: torch.Tensor) -> torch.Tensor:
    """The brightness of each pixel as ITU-R BT.601 defines it: [B, 1, H, W]."""
    red, green, blue = pixels.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None]


def change_brightness(pixels: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """0 makes an image black, 1 leaves it."""
    return (pixels * factors).clamp_(0, 1)


def change_contrast(pixels: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """0 makes an image as bright as its mean everywhere, 1 leaves it."""
    mean = luma(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, pixels, factors).clamp_(0, 1)


def change_saturation(pixels: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """0 makes an image grey, 1 leaves it."""
    return torch.lerp(luma(pixels), pixels, factors).clamp_(0, 1)


def turn_hue(pixels: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turns the colours in the hexagon of HSV; 1 is a whole turn.

    Source: Smith, Color gamut transform pairs, 1978.
    """
    red, green, blue = pixels.unbind(1)
    value, lowest = pixels.amax(dim=1), pixels.amin(dim=1)
    chroma = value - lowest
    divisor = chroma.clamp(min=1e-6)  # the hue of a grey pixel has no effect
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    turned = hue + 6 * turns[:, 0]
    # How far a channel is below the value, in units of the chroma.
    below = (torch.minimum(k := (turned + offset) % 6, 4 - k).clamp_(0, 1) for offset in (5, 3, 1))
    return torch.stack([value - chroma * share for share in below], dim=1)
