"""Any mode of Pillow's -> 8-bit RGB, some rows at a time where that saves a copy of the picture.

16 bits become 8 by the number of bits that the file says its values have: a picture of 12 bits would be
nearly black otherwise.
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
_DARK_BITS = 12  # values that keep to these in 16 are taken for values of fewer bits
_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS_PER_SAMPLE = 0, 262, 258  # of TIFF
_LARGEST_VALUE = (341, 281)  # SMaxSampleValue, MaxSampleValue
_DESCRIPTION = 270
_OME_BITS = re.compile(r'SignificantBits="(\d+)"')  # OME-TIFF, which microscopes write

# Pillow keeps the upper byte of 16-bit colour; read in the other order, it keeps the lower one. Without
# premultiplied alpha.
_DEEP_COLOUR = re.compile("(RGBX?|RGBA|CMYK);16([LBN])")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "L" if sys.byteorder == "big" else "B"}


class Depth(NamedTuple):
    """stored: bits of a value in the file; stated: how many of them it says are used, None where it doesn't
    say.

    stretched: values of fewer bits are to be stored as if they had 16.
    """

    stored: int = 8
    stated: int | None = None
    stretched: bool = False

    def used(self, union: int) -> int:
        """How many of 16 bits count, given all values' bitwise OR: a file that has others than it states
        isn't believed.
        """
        if (
            self.stated is None
            or union >> self.stated
            or (self.stretched and not union & (2 ** (16 - self.stated) - 1))
        ):
            return 16
        return self.stated


class Reduced(NamedTuple):
    """scaled: by what the file states.

    Dark: all values keep to 12 of 16 bits, which may be all that they have.
    """

    image: Image.Image
    scaled: bool = False
    dark: bool = False


def depth(image: ImageFile.ImageFile, data: bytes) -> Depth:
    """Of an image that isn't loaded yet, by the headers of its file."""
    if image.format == "PNG":
        return Depth(data[24], _plausible(image_headers.png_significant_bits(data)), stretched=True)
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
        return Depth(bits, bits if bits < 16 else _stated_in_tiff(image.tag_v2))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":  # Pillow stretches values to 16 bits
        bits = image_headers.jpeg2000_bits(data)
        return Depth(bits, None if bits == 16 else 16)
    if image.format == "PPM":  # so it does here, by the file's largest possible value
        arguments = image.tile[0].args
        largest = arguments[1] if isinstance(arguments, tuple) else {"I;16B": 65535}.get(str(arguments), 255)
        return Depth(16 if largest > 255 else 8, None if largest == 65535 else 16)
    return Depth()


def _stated_in_tiff(tags: dict[int, object]) -> int | None:
    for tag in _LARGEST_VALUE:
        values = tags.get(tag)
        largest = (
            {values}
            if isinstance(values, int | float)
            else set(values)
            if isinstance(values, tuple)
            else set()
        )
        bits = int(max(largest)).bit_length() if largest else 0
        if (
            largest == {2**bits - 1} and bits < 16
        ):  # else it is the largest that occurs, or nothing that is said
            return _plausible(bits)
    stated = _OME_BITS.search(str(tags.get(_DESCRIPTION, "")))
    return _plausible(int(stated[1])) if stated else None


def _plausible(bits: int | None) -> int | None:
    return bits if bits is not None and 8 <= bits <= 16 else None


def to_8_bits(image: Image.Image, depth: Depth, again: Callable[[], ImageFile.ImageFile]) -> Reduced:
    """A loaded image of more than 8 bits a channel, else as it is.

    again: opens its file once more, not loaded.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _grey(image, depth)
    bands = image.getbands()
    if depth.stored <= 8 or len(bands) == 1:
        return Reduced(image)
    extrema = cast("tuple[tuple[int, int], ...]", image.getextrema())
    upper = max(largest for _, largest in extrema[: len(bands) - (bands[-1] == "A")])
    if depth.stated is None:  # Pillow rounds the values of a PPM, so that 4,095 becomes 16
        return Reduced(image, dark=upper < 2 ** (_DARK_BITS - 8) + (image.format == "PPM"))
    if depth.stated == 16 or upper >> (depth.stated - 8):
        return Reduced(image)
    lower = _lower_bytes(again())
    return _scaled_colour(image, lower, depth) if lower else Reduced(image, dark=True)


def _grey(image: Image.Image, depth: Depth) -> Reduced:
    """The high byte of 16 bits, as Pillow and libpng do for 16-bit colour, so that equal pictures stay equal."""
    values = np.asarray(image)
    union = int(np.bitwise_or.reduce(values, axis=None))
    bits = depth.used(union)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if (
        image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    ):  # Pillow minds it in 8 bits only
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Reduced(Image.fromarray(grey), bits < 16, depth.stated is None and union >> _DARK_BITS == 0)


def _lower_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """The lower bytes of 16-bit colour; None where Pillow can't give them."""
    tiles = []
    for tile in image.tile:
        raw, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        known = _DEEP_COLOUR.fullmatch(str(raw))
        if not known:
            return None
        raw = f"{known[1]};16{_OTHER_ORDER[known[2]]}"
        tiles.append(tile._replace(args=(raw, *others) if others else raw))
    image.tile = tiles
    image.load()
    return image


def _scaled_colour(image: Image.Image, lower: Image.Image, depth: Depth) -> Reduced:
    """image: the upper bytes, which are overwritten."""
    union = max(np.bitwise_or.reduce(np.asarray(lower.crop(box)), axis=None) for box in strips(lower))
    bits = depth.used(int(union))
    if bits == 16:
        return Reduced(image)
    for box in strips(image):
        values = np.asarray(image.crop(box)).astype(np.uint16) << 8 | np.asarray(lower.crop(box))
        eight = np.minimum(values >> (bits - 8), 255).astype(np.uint8)  # alpha may have all 16 bits
        image.paste(Image.frombytes(image.mode, (box[2], box[3] - box[1]), eight.tobytes()), box)
    return Reduced(image, scaled=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """Transparent pixels on white; the image itself where it is RGB already."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    for box in strips(image):
        rgba = image.crop(box).convert("RGBA")
        white.paste(rgba, box, rgba.getchannel("A"))
    return white


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover an image, from the top, of a million pixels or one row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)
