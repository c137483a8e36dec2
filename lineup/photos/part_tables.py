"""The two tables of a part, train or test: the manifest of its images, and the prepared images in shards.

The prepared images are pass 2 of preprocess: they come in the order of their ids, from the raw files, or from
the local cache where an image was shrunk or converted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from lineup.photos import image_cache, photo_register
from lineup.photos.image_cache import ImageCache
from lineup.storage import parquet, schemas

_BATCH_BYTES = 2**20


def manifest(register: sqlite3.Connection, part: str) -> Iterator[tuple[object, ...]]:
    """Rows of schemas.MANIFEST: the images of train or test, sorted by (image_id, split)."""
    return (image[: len(schemas.MANIFEST)] for image in photo_register.images(register, part))


def image_batches(
    register: sqlite3.Connection, part: str, root: Path, cache: ImageCache
) -> Iterator[pa.RecordBatch]:
    """Rows of schemas.IMAGES in the order of ids, some megabytes at a time.

    Raises:
        UserError: none of an image's files holds it any more.
    """
    rows: list[tuple[str, str, str | None, bytes]] = []
    size = 0
    for image in photo_register.images(register, part):
        raw = [root / path for path in image.paths]
        with image_cache.unchanged(root, image.paths[0]):
            data = cache.stored_bytes(image.image_id, image.prepared_id is not None, raw)
        rows.append((image.image_id, image.split, image.prepared_id, data))
        size += len(data)
        if size >= _BATCH_BYTES:
            yield parquet.record_batch(rows, schemas.IMAGES)
            rows, size = [], 0
    if rows:
        yield parquet.record_batch(rows, schemas.IMAGES)


def image_metadata(register: sqlite3.Connection, part: str, cache: ImageCache) -> dict[str, str] | None:
    """Metadata of the training images: what decided the pixels of those that were shrunk or converted.

    It becomes part of a training's fingerprint, as images' ids are those of the raw files. None for the test,
    and where every file is stored unchanged.
    """
    replaced = photo_register.scalar(
        register, "SELECT EXISTS (SELECT 1 FROM photo WHERE part = ? AND prepared_id IS NOT NULL)", part
    )
    return {"preparation": cache.fingerprint} if part == "train" and replaced else None
