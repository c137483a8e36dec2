"""Photograph-like pictures made on the spot: smooth shapes, texture and noise; and prepared images of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from lineup.storage import parquet, schemas


def photograph(seed: int, width: int = 120, height: int = 90) -> bytes:
    """JPEG bytes; another picture for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, dtype=np.float32) + random.normal(0, 12, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def identify(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_prepared(
    folder: Path, photos: Iterable[tuple[str, bytes]], shrunk: dict[str, bytes] | None = None
) -> list[str]:
    """Prepared images as preprocess writes them, of (split, bytes); returns the ids in their order.

    shrunk: what is stored in the place of some images' own bytes, by id.
    """
    stored = shrunk or {}
    ids = sorted({(identify(data), split, data) for split, data in photos})
    rows = [
        (i, split, identify(stored[i]) if i in stored else None, stored.get(i, data))
        for i, split, data in ids
    ]
    columns = [
        pa.array([row[column] for row in rows], field.type) for column, field in enumerate(schemas.IMAGES)
    ]
    batch = pa.record_batch(columns, schema=schemas.IMAGES)
    parquet.write_shards(folder, schemas.IMAGES, [batch], len(rows), schemas.IMAGES_PER_SHARD)
    return [row[0] for row in rows]
