"""One row's embeddings of one part of the photos: what computes them, and which are in the cache already."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lineup import machine, paths
from lineup.embedding import (
    cache_key,
    dvc_cache,
    inference,
    measurement,
    missing_photos,
    quantised_network,
    vector_cache,
)
from lineup.embedding.missing_photos import Count
from lineup.embedding.vector_cache import VectorCache, Vectors
from lineup.encoders import adapter, encoder_folder, model_folder
from lineup.encoders.adapter import Adapter
from lineup.encoders.encoder_config import JsonObject, read_config
from lineup.engines import conversion, quantisation
from lineup.engines.engine import CannotConvert, Engine, Network
from lineup.errors import UserError
from lineup.fingerprint import fingerprint
from lineup.paths import Part
from lineup.photos import prepared_images
from lineup.settings.sections import Embed
from lineup.storage import embeddings, files, parquet, schemas

log = logging.getLogger(__name__)

_ROWS_PER_BATCH = 8_192


@dataclass(frozen=True)
class EmbedJob:
    """What is to be computed, by what, and where the vectors are cached.

    Attributes:
        part: which photos of data/raw; None of a second test set.
        photos: the folder of the prepared images.
        key: the fingerprint of all that decides a vector of the row besides the image.
        folder: of the encoder, without the row's adapter.
        cache: of the encoder's vectors, which all adapters of the encoder share.
        adapter: what the row applies to them; None where it has none.
        network: None where no vector is missing.
        images: how many there are; missing: of those, how many have no vector in the cache.
        pixel_key_parts: all that decides an image's pixels besides the image.
    """

    row: str
    part: Part | None
    photos: Path
    engine: Engine
    key: str
    folder: Path
    cache: VectorCache
    adapter: Adapter | None
    network: Network | None
    images: int
    missing: int
    pixel_key_parts: JsonObject
    weights_sha256: str

    @property
    def pixel_key(self) -> str:
        """The fingerprint of all that decides an image's pixels besides the image."""
        return fingerprint(self.pixel_key_parts)


def prepare_job(row: str, part: Part, embed: Embed) -> EmbedJob:
    """The job for the first engine that can compute the row's encoder.

    Args:
        embed: with the row's own precision (`Params.embed_of`).
    Raises:
        UserError: the engine that params.yaml names can't.
    """
    return _prepare(paths.model(row), row, part, paths.images(part), embed)


def prepare_fetched(row: str, part: Part, embed: Embed) -> EmbedJob:
    """The job for the row's encoder as it was fetched; otherwise as `prepare_job`."""
    return _prepare(paths.weights(row), row, part, paths.images(part), embed)


def prepare_photos(row: str, photos: Path, embed: Embed) -> EmbedJob:
    """The job for a folder of prepared images that are not those of data/raw; otherwise as `prepare_job`."""
    return _prepare(paths.model(row), row, None, photos, embed)


def _prepare(model: Path, row: str, part: Part | None, photos: Path, embed: Embed) -> EmbedJob:
    engines = quantisation.candidates(row, embed)
    for engine in engines:
        try:
            return _job_for(engine, model, row, part, photos, embed.batch_size)
        except CannotConvert as reason:
            fault = f"{engine.name} can't compute {model} ({reason})"
            if engine == engines[-1]:
                raise UserError(f"{paths.PARAMS}: embed.engine: {fault}; set engine: auto or torch") from None
            log.info("%s; another engine does", fault)
    raise AssertionError("there was no engine to try")


def _job_for(
    engine: Engine, model: Path, row: str, part: Part | None, photos: Path, batch_size: int
) -> EmbedJob:
    """The job for one engine. Raises CannotConvert."""
    folder, described = model_folder.weights_of(model), model_folder.resolve(model)
    config = read_config(described)
    has_adapter = described != folder
    quantised = quantised_folder(row, engine)
    key_parts = cache_key.vector_key_parts(folder, engine, quantised)
    key = fingerprint(key_parts)
    cache = VectorCache(paths.CACHE / "vectors" / key, read_config(folder).dim)
    counted = _fill_cache(row, part, key, cache) if part else missing_photos.count(photos, cache)
    network = _network(folder, quantised, photos, engine, batch_size) if counted.missing else None
    files.write_json(cache.folder / cache_key.KEY_PARTS_FILE, key_parts)
    return EmbedJob(
        row,
        part,
        photos,
        engine,
        adapter.vector_key(key, config) if has_adapter else key,
        folder,
        cache,
        adapter.load_adapter(described, config) if has_adapter else None,
        network,
        counted.images,
        counted.missing,
        cache_key.pixel_key_parts(folder),
        config.weights_sha256,
    )


def _fill_cache(row: str, part: Part, key: str, cache: VectorCache) -> Count:
    """If vectors are missing, adds those of last results, and counts what is still missing."""
    counted = missing_photos.count(paths.images(part), cache)
    for source in dvc_cache.rows(row, part):
        if not counted.missing:
            break
        if restored := dvc_cache.restore(source, key, cache, part):
            log.info("%s: %d vectors of the last result of %s are in the DVC cache", row, restored, source)
            if part == "test":
                measurement.restore(source, key, cache.folder)
            counted = missing_photos.count(paths.images(part), cache)
    return counted


def quantised_folder(row: str, engine: Engine) -> Path | None:
    """The folder of the row's network in int8; None in other precisions."""
    return paths.quantised(row) if engine.precision == quantisation.INT8 else None


def _network(folder: Path, quantised: Path | None, photos: Path, engine: Engine, batch_size: int) -> Network:
    """The encoder, converted, or its network in int8. Raises CannotConvert.

    A converted one is checked on the first images of the part, cached or not, so that every run gets the same
    result.
    """
    encoder = encoder_folder.load(folder)
    if quantised:
        return quantised_network.load(engine, quantised, encoder, None, machine.threads())
    first = islice(prepared_images.stream(photos, conversion.PARITY_IMAGES), conversion.PARITY_IMAGES)
    pixels = [inference.decoded((image.image_id, image.data), encoder.transform) for image in first]
    return conversion.prepare(engine, encoder, pixels, batch_size, machine.threads())


def vectors(job: EmbedJob, images: pa.RecordBatch) -> Vectors:
    """The row's vectors of images, whose encoder's vectors are all in the cache.

    Args:
        images: N rows with image_id and prepared_id, sorted.
    Returns:
        float32 [N, D].
    """
    of_encoder = job.cache.read(vector_cache.keys(images))
    return adapter.apply(job.adapter, of_encoder) if job.adapter else of_encoder


def read(job: EmbedJob, split: str) -> Iterator[tuple[list[str], Vectors]]:
    """The ids and the row's vectors of a split, in the order of ids; all are in the cache by now."""
    for rows in parquet.read_shards(job.photos, ["image_id", "split", "prepared_id"], _ROWS_PER_BATCH):
        of_split = rows.filter(pc.field("split") == split) if rows.num_rows else rows
        if of_split.num_rows:
            yield of_split.column("image_id").to_pylist(), vectors(job, of_split)


def write(job: EmbedJob) -> int:
    """Writes the row's embeddings, all of which are in the cache by now, and returns their number."""
    photos, part = job.photos, job.part
    assert part is not None, "of a second test set, figures alone are written"
    dim = job.adapter.direct.out_features if job.adapter else job.cache.dim

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in parquet.read_shards(photos, ["image_id", "split", "prepared_id"], _ROWS_PER_BATCH):
            yield embeddings.embeddings_batch(rows, vectors(job, rows))

    count = parquet.count_rows(photos)
    origin = embeddings.Origin(job.row, job.key, job.weights_sha256)
    parquet.write_shards(
        paths.embeddings(job.row, part),
        schemas.embeddings_schema(dim),
        batches(),
        count,
        schemas.VECTORS_PER_SHARD,
        {**origin.metadata(), "dim": str(dim)},
    )
    return count
