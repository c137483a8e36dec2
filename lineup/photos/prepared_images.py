"""One prepared image by its id, out of the shards that preprocess wrote."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import pyarrow.parquet as pq

from lineup.storage import parquet

_AT_ONCE = 16  # rows decoded at a time; a shard may hold a thousand photos

# What prepared images are, by their first bytes; browsers are told never to guess.
_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


def read(folder: Path, image_id: str) -> bytes | None:
    """Its encoded bytes, or None; reads no more of its shard than what comes before it.

    image_id is looked for, never made part of a path. UserError if the folder isn't there.
    """
    for file in parquet.shards(folder):
        if file.stem == "all" or image_id.startswith(file.stem):
            with pq.ParquetFile(file, memory_map=True) as shard:
                return _find(shard, image_id)
    return None


def _find(shard: pq.ParquetFile, image_id: str) -> bytes | None:
    for group in range(shard.num_row_groups):
        ids = shard.read_row_group(group, columns=["image_id"]).column("image_id").to_pylist()
        place = bisect_left(ids, image_id)
        if place == len(ids) or ids[place] != image_id:
            continue
        for rows in shard.iter_batches(batch_size=_AT_ONCE, row_groups=[group], columns=["image"]):
            if place < len(rows):
                return rows.column("image")[place].as_py()
            place -= len(rows)
    return None


def media_type(data: bytes) -> str:
    return next(
        (name for magic, name in _TYPES.items() if data.startswith(magic)), "application/octet-stream"
    )
