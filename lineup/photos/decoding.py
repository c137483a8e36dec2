"""Decoding: the one way from a file's bytes to pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageFile

from lineup.photos import image_headers, image_opening, pixel_identity, pixel_values, truncated_jpeg
from lineup.photos.image_opening import BadImage, explained, open_image

# The modules that decide a file's pixels.
CODE = tuple(
    Path(str(name))
    for name in (
        __file__,
        image_opening.__file__,
        truncated_jpeg.__file__,
        pixel_identity.__file__,
        pixel_values.__file__,
        image_headers.__file__,
    )
)

# Every browser shows images of these formats and modes as decode() does, so their bytes are stored unchanged.
_STORED_FORMATS = ("JPEG", "PNG", "WEBP")
_STORED_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DARK = (
    "has 16-bit values that all stay below 4,096: if they have 12 bits, it is read 16 times too dark, "
    "so save it with 8 bits a channel"
)


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        lossy: whether its compression is lossy; then a shrunk copy's may be, too.
        storable: whether its own bytes may be stored.
        notes: what its owner should know, each the end of a sentence.
    """

    rgb: Image.Image
    format: str
    lossy: bool
    storable: bool
    notes: list[str] = field(default_factory=list)


def decode(data: bytes) -> Image.Image:
    """A file's bytes -> the first frame as its owner sees it: upright, 8-bit RGB, on white where transparent.

    The content decides the format. Of 16-bit values the upper 8 bits are kept; if the file says that they
    have fewer bits, the upper 8 of those. CMYK becomes RGB by (255 - ink) * (255 - black) / 255. Colour
    profiles are not applied, as checkpoints are trained without.

    Raises:
        BadImage: with the reason.
    """
    return decode_with_notes(data).rgb


def decode_with_notes(data: bytes) -> Decoded:
    """As `decode`, with what else to know of the file."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # Some libraries set it, but half a picture is not a picture.
    with explained(data):
        return _decoded(open_image(data), data)


def _decoded(image: ImageFile.ImageFile, data: bytes) -> Decoded:
    name = {"MPO": "JPEG", "DIB": "BMP", "HEIF": "HEIC"}.get(image.format or "", image.format or "")
    storable = (
        image.format in _STORED_FORMATS and image.mode in _STORED_MODES and getattr(image, "n_frames", 1) == 1
    )
    lossy = name in ("JPEG", "AVIF", "JPEG2000", "HEIC") or (name == "WEBP" and b"VP8L" not in data)
    notes = (
        ["has several pages, of which the first is used"]
        if name == "TIFF" and getattr(image, "is_animated", False)
        else []
    )
    depth = pixel_values.depth(image, data)
    try:
        image.load()
    except OSError as error:
        if name != "JPEG" or "truncated" not in str(error):
            raise
        image, storable = truncated_jpeg.decode_without_end(data), False
        notes.append("lacks its end, but none of its pixels")
    reduced = pixel_values.to_8_bits(image, depth, lambda: open_image(data))
    if reduced.dark:
        notes.append(_DARK)
    if reduced.image.mode in ("I", "F", "LAB", "HSV"):
        raise BadImage(f"has pixels of an uncommon kind ({image.mode}); save it with 8 or 16 bits a channel")
    return Decoded(
        _upright(pixel_values.to_rgb(reduced.image), image),
        name,
        lossy,
        storable and not reduced.scaled,
        notes,
    )


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # A broken EXIF block says nothing about the picture.
        return rgb
    if orientation not in _TRANSPOSE_TO_UPRIGHT:
        return rgb
    return rgb.transpose(_TRANSPOSE_TO_UPRIGHT[orientation])
