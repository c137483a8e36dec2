"""The identity of an image's pixels, whatever file they are from."""

from __future__ import annotations

import hashlib

from PIL import Image

from lineup.photos import pixel_values


def pixels_id(rgb: Image.Image) -> str:
    """SHA-256 of an RGB image's size and pixels."""
    digest = hashlib.sha256(b"%d x %d RGB\n" % rgb.size)
    # All at once would be another copy of the picture, and take twice as long.
    for box in pixel_values.strips(rgb):
        digest.update(rgb.crop(box).tobytes())
    return digest.hexdigest()
