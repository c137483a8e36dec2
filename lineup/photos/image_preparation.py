"""What preprocess stores of a photo: its own bytes, or those of a smaller or plainer image."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from lineup.photos.decoding import decode_with_notes
from lineup.photos.image_opening import BadImage
from lineup.photos.pixel_identity import pixels_id

JPEG_QUALITY = 95
JPEG_MAX_SIDE_PX = 65_535
# The longer side divided by the shorter. At 518 px such a photo is resized to 27 million pixels.
MAX_ASPECT_RATIO = 100


@dataclass(frozen=True)
class ImagePreparation:
    """What preprocess learns from a file.

    Attributes:
        width, height: in pixels, upright.
        replacement: the bytes to store instead of the file's own; None to store those.
        note: what the owner of a usable file should know, as the end of a sentence; else empty.
    """

    pixels_id: str
    width: int
    height: int
    format: str
    replacement: bytes | None
    note: str = ""


def prepare(data: bytes, shorter_side_px: int) -> ImagePreparation:
    """What to know of a file, and what to store instead of its bytes.

    Its bytes are replaced if its shorter side has more than `shorter_side_px`, or if browsers may not show
    its format. Pixels change only where the image is shrunk.

    Raises:
        BadImage: it can't be decoded, or one side is too long. A transform enlarges the shorter side
            before it crops, so the few bytes of a thin line would become gigabytes.
    """
    decoded = decode_with_notes(data)
    rgb = decoded.rgb
    width, height = rgb.size
    if max(rgb.size) > MAX_ASPECT_RATIO * min(rgb.size):
        raise BadImage(
            f"has {width:,} x {height:,} pixels, one side more than {MAX_ASPECT_RATIO} times the other; "
            "crop it"
        )
    replacement = None
    if (size := shrunk_size(width, height, shorter_side_px)) != rgb.size:
        small = rgb.resize(size, Image.Resampling.LANCZOS)
        as_jpeg = decoded.lossy and max(small.size) <= JPEG_MAX_SIDE_PX
        replacement = (
            _encoded(small, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            if as_jpeg
            else _encoded(small, "PNG")
        )
    elif not decoded.storable:
        replacement = _encoded(rgb, "PNG")
    return ImagePreparation(
        pixels_id(rgb), width, height, decoded.format, replacement, "; ".join(decoded.notes)
    )


def shrunk_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    """Width and height of what is stored; the shorter is at least `shorter_side_px` if the image's own is.

    It is that or up to a sixteenth more, whichever preserves the aspect ratio best. Networks resize to whole
    pixels, and a ratio that is off by a fraction of one can shift the crop by a pixel.
    """
    shorter = min(width, height)
    if shorter <= shorter_side_px:
        return width, height
    sides = range(shorter_side_px, min(shorter, shorter_side_px + shorter_side_px // 16) + 1)
    side = min(
        sides,
        key=lambda side: abs(
            side * max(width, height) - shorter * round(side * max(width, height) / shorter)
        ),
    )
    return round(width * side / shorter), round(height * side / shorter)


def _encoded(rgb: Image.Image, container: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    rgb.info.clear()  # Profile and EXIF must go, since the pixels are upright now.
    rgb.save(buffer, container, **options)
    return buffer.getvalue()
