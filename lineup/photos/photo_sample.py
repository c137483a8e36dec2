"""What preprocess and the report will do to photos, tried on a few of them."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lineup.photos import image_preparation, thumbnails
from lineup.photos.image_cache import read_file
from lineup.photos.image_opening import BadImage
from lineup.photos.thumbnails import Drawn


@dataclass(frozen=True)
class PhotoSample:
    """Sums over the photos that could be read.

    Attributes:
        photos: how many there are.
        prepare_seconds: on one core.
        prepared_bytes: of the images that preprocess stores.
        replaced_bytes: of those that it shrinks or converts, which its cache holds as well.
        picture_seconds, picture_bytes: of the report's pictures, small and large, and of their copies in the
            local cache.
        unreadable: (path, the end of a sentence) of the others.
        images: the prepared images, encoded.
    """

    photos: int
    prepare_seconds: float
    prepared_bytes: int
    replaced_bytes: int
    picture_seconds: float
    picture_bytes: int
    unreadable: tuple[tuple[str, str], ...]
    images: tuple[bytes, ...]


def take(root: Path, names: Iterable[str], shorter_side_px: int, max_seconds: float) -> PhotoSample:
    """Decodes, shrinks and stores in memory, one photo after the other.

    Args:
        names: of the photos, relative to `root`.
        max_seconds: no further photo is begun after so long.
    """
    images, unreadable = [], []
    prepare_seconds = picture_seconds = 0.0
    replaced_bytes = picture_bytes = 0
    for name in names:
        if prepare_seconds + picture_seconds > max_seconds:
            break
        start = time.perf_counter()
        try:
            data = read_file(root / name)
            replacement = image_preparation.prepare(data, shorter_side_px).replacement
        except (BadImage, MemoryError) as error:
            unreadable.append((name, str(error) or "takes more memory than there is"))
            continue
        prepared = time.perf_counter()
        images.append(data if replacement is None else replacement)
        picture_bytes += _disk_bytes(thumbnails.draw(images[-1]))
        prepare_seconds += prepared - start
        picture_seconds += time.perf_counter() - prepared
        replaced_bytes += len(replacement or b"")
    return PhotoSample(
        len(images),
        prepare_seconds,
        sum(map(len, images)),
        replaced_bytes,
        picture_seconds,
        picture_bytes,
        tuple(unreadable),
        tuple(images),
    )


def _disk_bytes(drawn: Drawn) -> int:
    """Of a photo's pictures in the report, where a script holds the larger one as text, and in the cache."""
    as_text = len(base64.b64encode(drawn.picture))
    return 2 * len(drawn.thumbnail) + as_text + len(drawn.picture)
