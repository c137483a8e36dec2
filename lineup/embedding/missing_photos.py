"""The prepared images whose vectors are not in the cache, read without those of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import Ids
from lineup.storage import parquet

_KEY_ROWS_PER_BATCH = 65_536
_PHOTOS_PER_BATCH = 16  # as encoded bytes in memory


class Cached(Protocol):
    """Knows which vectors are in the cache."""

    def has(self, ids: Ids, /) -> npt.NDArray[np.bool_]:
        """Which of the ids have a vector: S32 [N] -> bool [N]."""
        ...


class MissingPhoto(NamedTuple):
    """key: of its vector in the cache; content: the encoded bytes of the prepared image."""

    image_id: str
    key: bytes
    content: bytes


class Count(NamedTuple):
    """images: each counted once, also if it is in both splits; missing: of those, without a cached vector."""

    images: int
    missing: int


def count(photos: Path, cache: Cached) -> Count:
    """Counts the images in a folder of prepared images."""
    images, missing, last = 0, 0, b""
    for rows in parquet.read_shards(photos, ["image_id", "prepared_id"], _KEY_ROWS_PER_BATCH):
        keys = vector_cache.keys(rows)
        first = keys != np.concatenate([np.array([last], "S32"), keys[:-1]])
        images += int(first.sum())
        missing += int((first & ~cache.has(keys)).sum())
        last = keys[-1] if len(keys) else last
    return Count(images, missing)


def read(photos: Path, cache: Cached) -> Iterator[MissingPhoto]:
    """The images without a cached vector, each once.

    A row group's bytes are read only if one of its images is missing.
    """
    last = ""
    for file in parquet.shards(photos):
        with pq.ParquetFile(file, buffer_size=2**20) as shard:
            for group in range(shard.num_row_groups):
                wanted = _missing_keys(shard, group, cache)
                for image_id, content in _photos(shard, group) if wanted else ():
                    if image_id in wanted and image_id != last:
                        last = image_id
                        yield MissingPhoto(image_id, wanted[image_id], content)


def _missing_keys(shard: pq.ParquetFile, group: int, cache: Cached) -> dict[str, bytes]:
    """The keys of a row group's images without a cached vector, by image_id."""
    table = shard.read_row_group(group, columns=["image_id", "prepared_id"])
    rows = table.combine_chunks().to_batches()[0]
    keys = vector_cache.keys(rows)
    missing = np.flatnonzero(~cache.has(keys))
    return {rows.column("image_id")[row].as_py(): bytes(keys[row]) for row in missing}


def _photos(shard: pq.ParquetFile, group: int) -> Iterator[tuple[str, bytes]]:
    """(image_id, encoded bytes) of all images of a row group."""
    for rows in shard.iter_batches(
        batch_size=_PHOTOS_PER_BATCH, row_groups=[group], columns=["image_id", "image"]
    ):
        for image_id, content in zip(rows.column("image_id").to_pylist(), rows.column("image"), strict=True):
            yield image_id, content.as_py()
