"""The vectors of prepared images, through the side cache: only those that no earlier run has computed are computed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from stages.lib import cli, encoders, images, inference, tables, vector_cache
from stages.lib.encoders import weights
from stages.lib.errors import UserError
from stages.lib.fingerprint import code_digest
from stages.lib.vector_cache import VectorCache


@dataclass(frozen=True)
class Work:
    """images, computed: how many there are, and were computed now; measured_images, measured_seconds: after the first batch."""

    images: int
    computed: int
    measured_images: int = 0
    measured_seconds: float = 0.0


def compute(folder: Path, photos: Path, cache: VectorCache, batch_size: int, device: torch.device) -> Work:
    """Computes the vectors that the cache lacks, and keeps each batch as soon as it is done.

    folder: an encoder; photos: prepared images.
    """
    total, lacking = count(photos, cache)
    if not lacking:
        return Work(total, 0)
    encoder = encoders.load(folder)
    times, done = [], []
    under_way: dict[str, bytes] = {}

    def photos_left() -> Iterator[tuple[str, bytes]]:
        for image_id, key, content in missing_photos(photos, cache):
            under_way[image_id] = key
            yield image_id, content

    with tqdm(total=lacking, unit="image", disable=None) as progress:
        start = time.perf_counter()
        for batch in inference.run(encoder, photos_left(), batch_size, device, cli.threads()):
            cache.add(np.array([under_way.pop(image_id) for image_id in batch.ids], "S32"), batch.vectors)
            progress.update(len(batch.ids))
            done.append(len(batch.ids))
            times.append(time.perf_counter() - start)
    cache.merge()
    if len(done) == 1:
        return Work(total, lacking, done[0], times[0])
    return Work(total, sum(done), sum(done[1:]), times[-1] - times[0])


def ingredients(folder: Path, device: torch.device) -> dict[str, Any]:
    """All that decides a vector besides the image: of the encoder in `folder`."""
    facts = tables.read_json(folder / encoders.FACTS_FILE)
    if weights.digest(folder / encoders.WEIGHTS_FILE) != facts["weights_sha256"]:
        raise UserError(f"{folder}: {encoders.WEIGHTS_FILE} is damaged (not the file of {encoders.FACTS_FILE}); `dvc checkout --force` it")
    library = Path(str(encoders.library(facts["library"]).__file__))
    return {
        "encoder": {name: fact for name, fact in facts.items() if name not in encoders.NOT_DECIDING},
        "versions": encoders.versions(*facts["versions"]),
        "code": code_digest(library, Path(images.__file__), Path(inference.__file__)),
        "engine": inference.ENGINE,
        "precision": inference.PRECISION,
        "device": device.type,
    }


def count(photos: Path, cache: VectorCache) -> tuple[int, int]:
    """Images, each counted once, and how many of them have no vector in the cache."""
    total, lacking, last = 0, 0, b""
    for rows in tables.read_shards(photos, ["image_id", "prepared_id"], 65_536):
        keys = vector_cache.keys(rows)
        first = keys != np.concatenate([np.array([last], "S32"), keys[:-1]])
        total += int(first.sum())
        lacking += int((first & ~cache.has(keys)).sum())
        last = keys[-1] if len(keys) else last
    return total, lacking


def missing_photos(photos: Path, cache: VectorCache) -> Iterator[tuple[str, bytes, bytes]]:
    """(image_id, key, encoded bytes) of the images whose vectors aren't kept, each once; reads no other row group's bytes."""
    last = ""
    for file in tables.shards(photos):
        with pq.ParquetFile(file, buffer_size=2**20) as parquet:
            for group in range(parquet.num_row_groups):
                known = parquet.read_row_group(group, columns=["image_id", "prepared_id"]).combine_chunks().to_batches()[0]
                keys = vector_cache.keys(known)
                lacking = ~cache.has(keys)
                wanted = {known.column("image_id")[row].as_py(): bytes(keys[row]) for row in np.flatnonzero(lacking)}
                if not wanted:
                    continue
                for rows in parquet.iter_batches(batch_size=16, row_groups=[group], columns=["image_id", "image"]):
                    for image_id, content in zip(rows.column("image_id").to_pylist(), rows.column("image"), strict=True):
                        if image_id in wanted and image_id != last:
                            last = image_id
                            yield image_id, wanted[image_id], content.as_py()


def rows(photos: Path, cache: VectorCache) -> Iterator[pa.RecordBatch]:
    """The rows of the embeddings table, in the order of the images."""
    for images_here in tables.read_shards(photos, ["image_id", "split", "prepared_id"], 8_192):
        yield tables.embeddings_batch(images_here, cache.read(vector_cache.keys(images_here)))
