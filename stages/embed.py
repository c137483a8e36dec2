"""embed@model: one vector per test image; computes only those that no earlier run has computed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from stages.lib import cli, encoders, images, inference, machine, paths, previous_result, tables, vector_cache
from stages.lib.encoders import weights
from stages.lib.errors import UserError
from stages.lib.fingerprint import code_digest, fingerprint
from stages.lib.vector_cache import VectorCache

MEASUREMENT = "measurement.json"
NOT_MEASURED = {"images_per_second": None, "measured_images": 0, "peak_memory_mb": None, "peak_gpu_memory_mb": None, "device": None}


@dataclass(frozen=True)
class Work:
    """images, computed: how many there are, and were computed now; measured_images, measured_seconds: after the first batch."""

    images: int
    computed: int
    measured_images: int = 0
    measured_seconds: float = 0.0


def embed(folder: Path, photos: Path, cache: VectorCache, batch_size: int, device: torch.device) -> Work:
    """Computes the vectors that the cache lacks, and keeps each batch as soon as it is done.

    folder: an encoder; photos: prepared images.
    """
    total, lacking = count(photos, cache)
    if not lacking:
        return Work(total, 0)
    encoder = encoders.load(folder)
    times, done = [], []
    with tqdm(total=lacking, unit="image", disable=None) as progress:
        start = time.perf_counter()
        for batch in inference.run(encoder, missing_photos(photos, cache), batch_size, device, cli.threads()):
            cache.add(vector_cache.raw_ids(batch.ids), batch.vectors)
            progress.update(len(batch.ids))
            done.append(len(batch.ids))
            times.append(time.perf_counter() - start)
    cache.merge()
    if len(done) == 1:
        return Work(total, lacking, done[0], times[0])
    return Work(total, sum(done), sum(done[1:]), times[-1] - times[0])


def ingredients(folder: Path, photos: Path, device: torch.device) -> dict[str, Any]:
    """All that decides a vector besides the image: of the encoder in `folder`, for the prepared images in `photos`."""
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
        # How photos were shrunk before; an image_id is that of the file as it was.
        "preparation": (pq.read_schema(tables.shards(photos)[0]).metadata or {}).get(b"preparation", b"").decode(),
    }


def count(photos: Path, cache: VectorCache) -> tuple[int, int]:
    """Images, each counted once, and how many of them have no vector in the cache."""
    total, lacking, last = 0, 0, ""
    for rows in tables.read_shards(photos, ["image_id"], 65_536):
        ids = sorted(set(rows.column("image_id").to_pylist()) - {last})
        total += len(ids)
        lacking += int((~cache.has(vector_cache.raw_ids(ids))).sum())
        last = ids[-1] if ids else last
    return total, lacking


def missing_photos(photos: Path, cache: VectorCache) -> Iterator[tuple[str, bytes]]:
    """(image_id, encoded bytes) of the images whose vectors aren't kept, each once; reads no other row group's bytes."""
    last = ""
    for file in tables.shards(photos):
        with pq.ParquetFile(file, buffer_size=2**20) as parquet:
            for group in range(parquet.num_row_groups):
                ids = parquet.read_row_group(group, columns=["image_id"]).column("image_id").to_pylist()
                lacking = ~cache.has(vector_cache.raw_ids(ids))
                wanted = {image_id for image_id, lacks in zip(ids, lacking, strict=True) if lacks}
                if not wanted:
                    continue
                for rows in parquet.iter_batches(batch_size=16, row_groups=[group], columns=["image_id", "image"]):
                    for image_id, content in zip(rows.column("image_id").to_pylist(), rows.column("image"), strict=True):
                        if image_id in wanted and image_id != last:
                            last = image_id
                            yield image_id, content.as_py()


def rows_of(photos: Path, cache: VectorCache) -> Iterator[pa.RecordBatch]:
    """The rows of the embeddings table, in the order of the images."""
    for rows in tables.read_shards(photos, ["image_id", "split"], 8_192):
        ids = rows.column("image_id").to_pylist()
        yield tables.embeddings_batch(ids, rows.column("split").to_pylist(), cache.read(vector_cache.raw_ids(ids)))


def restore(model: str, photos: Path, key: str, cache: VectorCache) -> None:
    """Takes what the side cache lacks, vectors and measurement, from the row's last result in the DVC cache."""
    _, lacking = count(photos, cache)
    if not lacking:
        return
    taken = previous_result.restore(model, key, cache)
    costs = previous_result.costs(model, key) if taken else None
    if costs and not (cache.folder / MEASUREMENT).exists():
        tables.write_json(cache.folder / MEASUREMENT, {fact: costs[fact] for fact in NOT_MEASURED})
    if taken:
        cli.log.info("%s: %d vectors of the last result are in the DVC cache", model, taken)


def measurement(cache: VectorCache, work: Work, device: torch.device) -> dict[str, Any]:
    """The measurement over most images so far: a handful of new photos, or none, doesn't replace that of a full run."""
    file = cache.folder / MEASUREMENT
    earlier = tables.read_json(file) if file.exists() else NOT_MEASURED
    if earlier["measured_images"] > work.measured_images or not work.measured_images:
        return earlier
    gpu = device.type == "cuda"
    now = {
        "images_per_second": round(work.measured_images / work.measured_seconds, 2),
        "measured_images": work.measured_images,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if gpu else None,
        "device": torch.cuda.get_device_name() if gpu else f"{machine.cpu_name()}, {cli.threads()} threads",
    }
    tables.write_json(file, now)
    return now


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("embed", argv)
    start = time.perf_counter()
    folder, photos = paths.trained(model), paths.images("test")
    device = inference.choose_device(params.embed.device)
    facts = tables.read_json(folder / encoders.FACTS_FILE)
    decides = ingredients(folder, photos, device)
    key = fingerprint(decides)
    cache = VectorCache(paths.CACHE / "vectors" / key, facts["dim"])
    tables.write_json(cache.folder / "ingredients.json", decides)
    restore(model, photos, key, cache)
    work = embed(folder, photos, cache, params.embed.batch_size, device)
    rows = tables.count_rows(photos)
    metadata = {"model": model, "dim": str(facts["dim"]), "fingerprint": key}
    schema = tables.embeddings_schema(facts["dim"])
    tables.write_shards(paths.embeddings(model), schema, rows_of(photos, cache), rows, tables.VECTORS_PER_SHARD, metadata)
    costs = {
        **measurement(cache, work, device),
        **{name: facts.get(name) for name in ("parameters", "gflops", "dim", "image_size", "random", "licence", "source")},
        "seconds": round(time.perf_counter() - start, 3),
        "fingerprint": key,
        "computed": work.computed,
        "reused": work.images - work.computed,
        "engine": inference.ENGINE,
        "precision": inference.PRECISION,
    }
    tables.write_json(paths.costs("embed", model), costs)
    cli.log.info("%s: %d vectors of %d dimensions, %d of them computed now", model, rows, facts["dim"], work.computed)


if __name__ == "__main__":
    cli.run(main)
