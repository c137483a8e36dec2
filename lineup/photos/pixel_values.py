"""Converts images of any of Pillow's modes to 8-bit RGB, in strips where that saves a copy of the picture.

How 16 bits are reduced to 8 depends on how many bits the values have according to the file: otherwise a
12-bit picture would be nearly black.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile

from lineup.photos import image_headers

_STRIP_PIXELS = 2**20
# Where all 16-bit values fit into this many bits, the picture probably has fewer than 16.
_DARK_BITS = 12
# Tags of TIFF, and a value of its tag PhotometricInterpretation.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _DESCRIPTION = 258, 262, 270
_MAX_SAMPLE_VALUES = (341, 281)  # SMaxSampleValue, MaxSampleValue
_WHITE_IS_ZERO = 0
# Microscopes write OME-TIFF, whose description has this.
_OME_BITS = re.compile(r'SignificantBits="(\d+)"')

# Pillow keeps the upper byte of 16-bit colour. If it reads the bytes in the other order, it keeps the lower
# one. Modes with premultiplied alpha are left out.
_DEEP_COLOUR = re.compile("(RGBX?|RGBA|CMYK);16([LBN])")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "L" if sys.byteorder == "big" else "B"}


class Depth(NamedTuple):
    """How many bits the values of an image have.

    Attributes:
        stored: bits of a value in the file.
        stated: how many of these are used according to the file; None if it does not say.
        stretched: whether the format stores values of fewer bits as if they had 16.
    """

    stored: int = 8
    stated: int | None = None
    stretched: bool = False

    def used(self, union: int) -> int:
        """How many of the 16 bits are used; 16 if the values contradict what the file states.

        Args:
            union: the bitwise OR of all values.
        """
        if (
            self.stated is None
            or union >> self.stated
            or (self.stretched and not union & (2 ** (16 - self.stated) - 1))
        ):
            return 16
        return self.stated


class Reduced(NamedTuple):
    """An image reduced to 8 bits a channel.

    Attributes:
        scaled: whether its values were taken to have fewer than 16 bits, as the file states.
        dark: whether all values fit into 12 of 16 bits, which may be all that they have.
    """

    image: Image.Image
    scaled: bool = False
    dark: bool = False


def depth(image: ImageFile.ImageFile, data: bytes) -> Depth:
    """The depth of an image that is not loaded yet, from the headers of its file."""
    if image.format == "PNG":
        return Depth(data[24], _plausible(image_headers.png_significant_bits(data)), stretched=True)
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
        return Depth(bits, bits if bits < 16 else _stated_in_tiff(image.tag_v2))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":  # Pillow stretches the values to 16 bits.
        bits = image_headers.jpeg2000_bits(data)
        return Depth(bits, None if bits == 16 else 16)
    if image.format == "PPM":  # Pillow stretches these, too, from the largest value that the file allows.
        arguments = image.tile[0].args
        largest = arguments[1] if isinstance(arguments, tuple) else {"I;16B": 65535}.get(str(arguments), 255)
        return Depth(16 if largest > 255 else 8, None if largest == 65535 else 16)
    return Depth()


def _stated_in_tiff(tags: dict[int, object]) -> int | None:
    for tag in _MAX_SAMPLE_VALUES:
        values = tags.get(tag)
        largest = (
            {values}
            if isinstance(values, int | float)
            else set(values)
            if isinstance(values, tuple)
            else set()
        )
        bits = int(max(largest)).bit_length() if largest else 0
        # Any other number is the largest value that occurs, or is meaningless.
        if largest == {2**bits - 1} and bits < 16:
            return _plausible(bits)
    stated = _OME_BITS.search(str(tags.get(_DESCRIPTION, "")))
    return _plausible(int(stated[1])) if stated else None


def _plausible(bits: int | None) -> int | None:
    return bits if bits is not None and 8 <= bits <= 16 else None


def to_8_bits(image: Image.Image, depth: Depth, reopen: Callable[[], ImageFile.ImageFile]) -> Reduced:
    """Reduces a loaded image of more than 8 bits a channel; returns any other unchanged.

    Args:
        reopen: opens the image's file once more, without loading it.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _grey(image, depth)
    bands = image.getbands()
    if depth.stored <= 8 or len(bands) == 1:
        return Reduced(image)
    extrema = cast("tuple[tuple[int, int], ...]", image.getextrema())
    upper = max(largest for _, largest in extrema[: len(bands) - (bands[-1] == "A")])
    if depth.stated is None:  # Pillow rounds the values of a PPM, so that 4,095 becomes 16.
        return Reduced(image, dark=upper < 2 ** (_DARK_BITS - 8) + (image.format == "PPM"))
    if depth.stated == 16 or upper >> (depth.stated - 8):
        return Reduced(image)
    lower = _lower_bytes(reopen())
    return _scaled_colour(image, lower, depth) if lower else Reduced(image, dark=True)


def _grey(image: Image.Image, depth: Depth) -> Reduced:
    """Keeps the upper byte of 16 bits, as Pillow and libpng do for colour, so equal pictures stay equal."""
    values = np.asarray(image)
    union = int(np.bitwise_or.reduce(values, axis=None))
    bits = depth.used(union)
    grey = (values >> (bits - 8)).astype(np.uint8)
    # Pillow applies this tag to 8-bit images only.
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Reduced(Image.fromarray(grey), bits < 16, depth.stated is None and union >> _DARK_BITS == 0)


def _lower_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """The lower bytes of 16-bit colour; None if Pillow can't read them."""
    tiles = []
    for tile in image.tile:
        raw, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        mode = _DEEP_COLOUR.fullmatch(str(raw))
        if not mode:
            return None
        raw = f"{mode[1]};16{_OTHER_ORDER[mode[2]]}"
        tiles.append(tile._replace(args=(raw, *others) if others else raw))
    image.tile = tiles
    image.load()
    return image


def _scaled_colour(image: Image.Image, lower: Image.Image, depth: Depth) -> Reduced:
    """Scales colour to 8 bits, from the upper bytes in `image`, which is overwritten, and the lower ones."""
    union = max(np.bitwise_or.reduce(np.asarray(lower.crop(box)), axis=None) for box in strips(lower))
    bits = depth.used(int(union))
    if bits == 16:
        return Reduced(image)
    for box in strips(image):
        values = np.asarray(image.crop(box)).astype(np.uint16) << 8 | np.asarray(lower.crop(box))
        reduced = np.minimum(values >> (bits - 8), 255).astype(np.uint8)  # Alpha may use all 16 bits.
        image.paste(Image.frombytes(image.mode, (box[2], box[3] - box[1]), reduced.tobytes()), box)
    return Reduced(image, scaled=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts to RGB, with transparent pixels on white; returns an RGB image without any unchanged."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    for box in strips(image):
        rgba = image.crop(box).convert("RGBA")
        white.paste(rgba, box, rgba.getchannel("A"))
    return white


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover an image from the top, of about a million pixels or of one longer row each."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)
