"""JPEGs that lack their end, of which some lack no pixel."""

from __future__ import annotations

import io

from PIL import Image, ImageFile

from lineup.photos import image_headers
from lineup.photos.image_opening import BadImage
from lineup.photos.pixel_identity import pixels_id

# A JPEG without its end is decoded with each of these appended: any coded pixels, and those of a new restart
# interval.
_RISING, _FALLING = bytes(range(0x01, 0xFF)), bytes(range(0xFE, 0x00, -1))
_JPEG_TAILS = (_RISING, _FALLING, *(bytes((0xFF, 0xD0 + restart)) + _RISING for restart in range(8)))
_JPEG_END = b"\xff\xd9"


def decode_without_end(data: bytes) -> ImageFile.ImageFile:
    """The picture of a JPEG that is cut off after its last pixel.

    A decoder takes whatever follows for the missing pixels. So none is missing if the picture stays the same
    whatever follows.

    Raises:
        BadImage: a pixel is missing.
    """
    start = data.rstrip(_JPEG_END[:1])  # After half a marker, all that follows would be ignored.
    image = None
    try:
        image = _ended_jpeg(start)
        expected = pixels_id(image)
        complete = image_headers.has_every_scan(start) and all(
            pixels_id(_ended_jpeg(start + tail)) == expected for tail in _JPEG_TAILS
        )
    except OSError:
        complete = False
    if image is None or not complete:
        raise BadImage("is truncated")
    return image


def _ended_jpeg(endless: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(endless + _JPEG_END), formats=("JPEG", "MPO"))
    image.load()
    return image
