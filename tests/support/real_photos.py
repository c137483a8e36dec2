"""Real photos of any size, put together from smaller ones: those of a folder, or the two of scikit-learn."""

from __future__ import annotations

import importlib.resources
import io
import random
from pathlib import Path

from PIL import Image

from lineup.errors import UserError
from lineup.photos import decoding

# Megapixels, and width and height. The smallest are about what shops publish, the largest what phones take.
SIZES = {0.2: (512, 384), 1: (1152, 864), 3: (2048, 1536), 12: (4000, 3000)}
JPEG_QUALITY = 92
_SUFFIXES = (".jpg", ".jpeg", ".png")


def files(folder: Path | None = None) -> list[Path]:
    """The photos of a folder, sorted; by default those that the package scikit-learn has.

    These are china.jpg and flower.jpg, 640 x 427 pixels each.

    Raises:
        UserError: the folder has none.
    """
    source = folder or Path(str(importlib.resources.files("sklearn.datasets.images")))
    photos = sorted(file for file in source.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not photos:
        raise UserError(f"{source}: has no file that ends in {', '.join(_SUFFIXES)}; name a folder of photos")
    return photos


def put_together(photos: list[Path], width: int, height: int, chance: random.Random) -> bytes:
    """A JPEG in which some of the photos lie side by side, each at its own size."""
    canvas, top = Image.new("RGB", (width, height)), 0
    while top < height:
        left, row_height = 0, height
        while left < width:
            tile = decoding.decode(chance.choice(photos).read_bytes())
            canvas.paste(tile, (left, top))
            left, row_height = left + tile.width, min(row_height, tile.height)
        top += row_height
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
