"""Decoding: the one way from a file's bytes to pixels, and the prepared images that every later room reads."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from stages.lib import tables

# Formats that decode in this process from untrusted bytes; EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 2 * 89_478_485  # where Pillow itself refuses; 537 MB as RGB
JPEG_QUALITY = 95
JPEG_MAX_SIDE_PX = 65_535
_STRIP = 64  # rows

_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")  # what every browser shows as decode() sees it
_KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_ORIENTATION = 0x0112  # EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Odd metadata of a photo that decodes well is nobody's concern; what doesn't decode raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """Why bytes can't be decoded, as the end of a sentence: "is truncated"."""


class PreparedImage(NamedTuple):
    image_id: str
    split: str
    data: bytes


@dataclass(frozen=True)
class Preparation:
    """What preprocess learns from a file. width, height: upright pixels; replacement: None where the bytes are kept."""

    pixels_id: str
    width: int
    height: int
    format: str
    replacement: bytes | None


def decode(data: bytes) -> Image.Image:
    """A file's bytes -> the picture as its owner sees it: upright, 8-bit RGB, on white where transparent, first frame.

    The content decides the format. 16-bit values keep their high byte; CMYK becomes RGB by (255 - ink) * (255 - black) / 255.
    Colour profiles are not applied: the checkpoints were trained without. Raises BadImage with the reason.
    """
    return _decode(data).rgb


def prepare(data: bytes, shorter_side_px: int) -> Preparation:
    """Facts about a file, and the bytes to store in its place if its shorter side has more than shorter_side_px, or in an odd
    format.

    Pixels change only where the image is shrunk. Raises BadImage.
    """
    decoded = _decode(data)
    rgb = decoded.rgb
    width, height = rgb.size
    replacement = None
    if (size := shrunk_size(width, height, shorter_side_px)) != rgb.size:
        small = rgb.resize(size, Image.Resampling.LANCZOS)
        as_jpeg = decoded.lossy and max(small.size) <= JPEG_MAX_SIDE_PX
        replacement = _encoded(small, "JPEG", quality=JPEG_QUALITY, subsampling=0) if as_jpeg else _encoded(small, "PNG")
    elif not decoded.plain:
        replacement = _encoded(rgb, "PNG")
    return Preparation(pixels_id(rgb), width, height, decoded.format, replacement)


def shrunk_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    """Width and height of what is stored: with `shorter_side_px` or up to a sixteenth more, whichever keeps the proportions best.

    Networks resize to whole pixels: proportions that are off by a fraction of one can shift the crop by a pixel.
    """
    shorter = min(width, height)
    if shorter <= shorter_side_px:
        return width, height
    sides = range(shorter_side_px, min(shorter, shorter_side_px + shorter_side_px // 16) + 1)
    side = min(sides, key=lambda side: abs(side * max(width, height) - shorter * round(side * max(width, height) / shorter)))
    return round(width * side / shorter), round(height * side / shorter)


def pixels_id(rgb: Image.Image) -> str:
    """SHA-256 of an RGB image's size and pixels."""
    digest = hashlib.sha256(b"%d x %d RGB\n" % rgb.size)
    for top in range(0, rgb.height, _STRIP):  # all at once would be another copy of the picture, and take twice as long
        digest.update(rgb.crop((0, top, rgb.width, min(top + _STRIP, rgb.height))).tobytes())
    return digest.hexdigest()


def prepared(folder: Path, batch_rows: int = 64) -> Iterator[PreparedImage]:
    """Every image that preprocess wrote to `folder`, sorted by (image_id, split); streams. UserError if it isn't there."""
    for batch in tables.read_shards(folder, ["image_id", "split", "image"], batch_rows):
        columns = (batch.column(name).to_pylist() for name in ("image_id", "split", "image"))
        yield from map(PreparedImage, *columns)


@dataclass(frozen=True)
class _Decoded:
    rgb: Image.Image
    format: str
    lossy: bool  # as compressed: a shrunk copy may be, too
    plain: bool  # its own bytes are fit to be handed on


def _decode(data: bytes) -> _Decoded:
    if not data:
        raise BadImage("is empty (0 bytes)")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a library may have set it; half a picture is not a picture
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        name = {"MPO": "JPEG", "DIB": "BMP"}.get(image.format or "", image.format or "")
        kind = image.format in _KEPT_FORMATS and image.mode in _KEPT_MODES and getattr(image, "n_frames", 1) == 1
        lossy = name in ("JPEG", "AVIF", "JPEG2000") or (name == "WEBP" and b"VP8L" not in data)
        image.load()
        return _Decoded(_upright(_rgb(image), image), name, lossy, kind)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(f"has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise BadImage(_not_an_image(data)) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise about everything on damaged bytes
        raise BadImage(_damage(error)) from None


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, transparency on white."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _of_16_bits(image, transparent)
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise BadImage(f"has pixels of an uncommon kind ({image.mode}); save it with 8 or 16 bits a channel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _of_16_bits(image: Image.Image, transparent: object) -> Image.Image:
    """16-bit grey -> RGB. The high byte, as Pillow and libpng do for 16-bit colour, so that equal pictures stay equal."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0:  # 0 is white, which Pillow minds in 8 bits only
        grey = 255 - grey
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block says nothing about the picture
        return rgb
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _encoded(rgb: Image.Image, container: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    rgb.info.clear()  # no profile, no EXIF: the pixels are upright now
    rgb.save(buffer, container, **options)
    return buffer.getvalue()


def _not_an_image(data: bytes) -> str:
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheif", b"ftypmsf1", b"ftyphevc"):
        return "is HEIC, which can't be read; export it as JPEG"
    known = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        known = "WebP"
    return f"is a damaged {known}" if known else "is not an image (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and PPM are read)"


def _damage(error: Exception) -> str:
    told = re.sub(r"<[^>]*>| at 0x[0-9a-f]+", "", str(error)).strip() or type(error).__name__
    truncated = re.search(r"truncated|unexpected end|end of file|EOF|incomplete", told, re.IGNORECASE) or isinstance(error, EOFError)
    return "is truncated" if truncated else f"is damaged ({told})"
