"""Reads prepared images from the shards that preprocess wrote: one by its id, or all in order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from lineup.storage import parquet

_ROWS_PER_BATCH = 16  # A shard may have a thousand photos.

# By an image's first bytes. The server forbids browsers to guess the type.
_MEDIA_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


class PreparedImage(NamedTuple):
    """An image as preprocess stored it; data: its encoded bytes."""

    image_id: str
    split: str
    data: bytes


def read(folder: Path, image_id: str) -> bytes | None:
    """The image's encoded bytes, or None if there is no such image.

    No more of its shard is read than what precedes it. The id is compared, never made part of a path.

    Raises:
        UserError: the folder does not exist.
    """
    for file in parquet.shards(folder):
        if file.stem == "all" or image_id.startswith(file.stem):
            with pq.ParquetFile(file, memory_map=True) as shard:
                return _find(shard, image_id)
    return None


def _find(shard: pq.ParquetFile, image_id: str) -> bytes | None:
    for group in range(shard.num_row_groups):
        ids = shard.read_row_group(group, columns=["image_id"]).column("image_id").to_pylist()
        row = bisect_left(ids, image_id)
        if row == len(ids) or ids[row] != image_id:
            continue
        for batch in shard.iter_batches(batch_size=_ROWS_PER_BATCH, row_groups=[group], columns=["image"]):
            if row < len(batch):
                return batch.column("image")[row].as_py()
            row -= len(batch)
    return None


def stream(folder: Path, batch_rows: int = 64) -> Iterator[PreparedImage]:
    """Every image that preprocess wrote to `folder`, sorted by (image_id, split).

    Raises:
        UserError: the folder does not exist.
    """
    for batch in parquet.read_shards(folder, ["image_id", "split", "image"], batch_rows):
        columns = (batch.column(name).to_pylist() for name in ("image_id", "split", "image"))
        yield from map(PreparedImage, *columns)


def media_type(data: bytes) -> str:
    """The media type of a prepared image, such as image/jpeg."""
    return next(
        (name for magic, name in _MEDIA_TYPES.items() if data.startswith(magic)), "application/octet-stream"
    )
