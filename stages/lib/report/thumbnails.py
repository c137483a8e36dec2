"""Small pictures for the report, one file per image.

Loose files: the browser reads just those in view, and DVC stores and pushes just the new ones. Sheets or scripts of many
would have to be read nearly whole for one screen, as a query's answers are spread over all of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from PIL import Image

from stages.lib import images, tables

SIDE = 128  # pixels
_QUALITY = 80
_AT_ONCE = 64  # images in memory


def thumbnail(data: bytes) -> bytes:
    """A prepared image's bytes -> JPEG bytes, at most SIDE pixels high and wide."""
    rgb = images.decode(data)
    rgb.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    rgb.info.clear()
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def write(folder: Path, prepared: Iterable[images.PreparedImage], threads: int) -> int:
    """Writes <folder>/<image_id>.jpg for each image, once; the folder appears when it is whole. Returns how many."""
    count = 0

    def fill(temporary: Path) -> None:
        nonlocal count
        temporary.mkdir()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and encodes beside Python
            for some in _batches(_distinct(prepared), _AT_ONCE):
                for image, data in zip(some, pool.map(thumbnail, (image.data for image in some)), strict=True):
                    (temporary / f"{image.image_id}.jpg").write_bytes(data)
                count += len(some)

    tables.replace_atomically(folder, fill)
    return count


def _distinct(prepared: Iterable[images.PreparedImage]) -> Iterator[images.PreparedImage]:
    """An image may be query and gallery at once; the two come one after the other."""
    last = None
    for image in prepared:
        if image.image_id != last:
            yield image
        last = image.image_id


def _batches(prepared: Iterator[images.PreparedImage], size: int) -> Iterator[list[images.PreparedImage]]:
    while some := list(islice(prepared, size)):
        yield some
