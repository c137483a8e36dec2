"""What a photo's pixels and EXIF data say of it: sharpness, brightness, contrast, colourfulness, camera.

The pixels are those of the prepared image, resized to one area for all photos. Sharpness depends on the
resolution: at its full size, neighbouring pixels of a photo of 12 megapixels that is in focus are as alike as
those of a blurred small one. At one area, which is about what networks see, photos can be compared, and a
small photo that is enlarged counts as soft, as it does for a network. Besides, to decode the original once
more would take longer the more pixels it has.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from lineup.photos import image_headers, image_opening, pixel_values

# The area of the square of 256 px, to which networks of 224 px resize a square photo before they crop.
AREA_PIXELS = 256 * 256
_DECIMALS = 2
_MAX_CAMERA_CHARACTERS = 100

IntArray = npt.NDArray[np.int16]


class PixelAttributes(NamedTuple):
    """Attributes of one photo; all but the camera are rounded to hundredths.

    sharpness: variance of the Laplacian of the brightness, from 0, on pixels of 0..255;
    brightness: mean, 0..255; contrast: standard deviation of the brightness, 0..127.5;
    colourfulness: M of Hasler & Süsstrunk, 0 for grey, about 15 for slightly and 80 for highly colourful;
    camera: maker and model; None where EXIF does not say.
    """

    sharpness: float
    brightness: float
    contrast: float
    colourfulness: float
    camera: str | None


def examine(original: bytes, prepared: bytes) -> PixelAttributes:
    """The attributes of a photo that preprocess could decode.

    Args:
        original: the bytes of the file, which have the EXIF data.
        prepared: the bytes of the prepared image, which may be the same.
    """
    rgb = _at_one_area(prepared)
    red, green, blue, grey = (np.asarray(band, np.int16) for band in (*rgb.split(), rgb.convert("L")))
    brightness, grey_variance = _moments(grey)
    _, laplacian_variance = _moments(laplacian(grey))
    return PixelAttributes(
        sharpness=round(laplacian_variance, _DECIMALS),
        brightness=round(brightness, _DECIMALS),
        contrast=round(math.sqrt(grey_variance), _DECIMALS),
        colourfulness=round(colourfulness(red, green, blue), _DECIMALS),
        camera=camera(original),
    )


def laplacian(grey: IntArray) -> IntArray:
    """The sum of each inner pixel's four neighbours minus four times itself: [H, W] -> [H - 2, W - 2].

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, for its variance.
    """
    neighbours = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return neighbours - 4 * grey[1:-1, 1:-1]


def colourfulness(red: IntArray, green: IntArray, blue: IntArray) -> float:
    """M of an image: sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2).

    Here rg = R - G and yb = (R + G) / 2 - B.

    Source: Hasler & Süsstrunk, Measuring colourfulness in natural images, SPIE 2003, section 7.
    """
    rg_mean, rg_variance = _moments(red - green)
    doubled_mean, doubled_variance = _moments(red + green - 2 * blue)
    yb_mean, yb_variance = doubled_mean / 2, doubled_variance / 4
    return math.sqrt(rg_variance + yb_variance) + 0.3 * math.hypot(rg_mean, yb_mean)


def camera(original: bytes) -> str | None:
    """Maker and model from the file's EXIF data, on one line; None where it does not say."""
    try:
        exif = _open_original(original).getexif()
        maker, model = (_one_line(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    except Exception:  # A broken EXIF block says nothing about the photo.
        return None
    # Canon and others write their name in both.
    name = model if model.casefold().startswith(maker.casefold()) else f"{maker} {model}"
    return name.strip()[:_MAX_CAMERA_CHARACTERS].strip() or None


def _open_original(original: bytes) -> Image.Image:
    """Reads the header. Raises whatever Pillow does."""
    if image_headers.format_of(original) == "HEIC":
        import pillow_heif  # It is installed, since the photo was decoded.

        return pillow_heif.HeifImageFile(io.BytesIO(original))
    return Image.open(io.BytesIO(original), formats=image_opening.FORMATS)


def _one_line(value: object) -> str:
    """A text of EXIF data without what can't be printed; "" for anything else than a text."""
    text = unicodedata.normalize("NFC", value) if isinstance(value, str) else ""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"\s+", " ", printable).strip()


def _at_one_area(prepared: bytes) -> Image.Image:
    """The RGB image of AREA_PIXELS pixels, and of the prepared image's aspect ratio.

    A JPEG is decoded at the smallest fraction of its size that is not below. Pixels are averaged, which comes
    nearest to that: the sharpness is within 2% of the whole JPEG's, with Lanczos within 14%.
    """
    image = Image.open(io.BytesIO(prepared))
    scale = math.sqrt(AREA_PIXELS / (image.width * image.height))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image.draft("RGB", size)
    filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return pixel_values.to_rgb(image).resize(size, filter_)


def _moments(values: IntArray) -> tuple[float, float]:
    """Mean and variance. Sums of whole numbers are exact, so that they are the same on every machine."""
    whole = values.astype(np.int32)
    total, squares = int(whole.sum(dtype=np.int64)), int(np.square(whole).sum(dtype=np.int64))
    return total / whole.size, (squares * whole.size - total * total) / whole.size**2
