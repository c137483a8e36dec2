"""The vectors of prepared images, through the side cache: only those that no earlier run has computed are
computed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from lineup import machine, paths
from lineup.embedding import inference, vector_cache
from lineup.embedding.pixel_cache import PixelCache
from lineup.embedding.vector_cache import VectorCache
from lineup.encoders import encoder as encoders
from lineup.engines import engine as engines
from lineup.engines import lookup_transform, tracing
from lineup.engines.engine import CannotConvert, Engine, Network
from lineup.engines.lookup_transform import LookUp
from lineup.errors import UserError
from lineup.fingerprint import code_digest, fingerprint
from lineup.paths import Part
from lineup.photos import decoding
from lineup.settings.params import Embed
from lineup.storage import embeddings, files, parquet, schemas

log = logging.getLogger(__name__)

MEASURED = 4_096  # images; decoding so many takes seconds
LEAST_MEASURED = (
    512  # images; with fewer, those that were under way as the first batch was done would count for too much
)


@dataclass(frozen=True)
class Work:
    """images, computed: how many there are, and were computed now.

    measured_images, measured_seconds: after the first batch where enough follow, else from the start.
    """

    images: int
    computed: int
    measured_images: int = 0
    measured_seconds: float = 0.0


@dataclass(frozen=True)
class Vectors:
    """Of one encoder, as one engine computes them.

    network: None where no image lacks its vector; lacking: how many do.
    """

    engine: Engine
    fingerprint: str
    cache: VectorCache
    network: Network | None
    images: int
    lacking: int
    pixels: dict[str, Any]  # what decides an image's, before they are scaled to numbers
    weights_sha256: str

    @property
    def pixels_fingerprint(self) -> str:
        return fingerprint(self.pixels)


def settle(folder: Path, photos: Path, embed: Embed, restore: Callable[[str, VectorCache], int]) -> Vectors:
    """The encoder's vectors by the first engine that can compute them, as far as they are kept.

    folder: an encoder; photos: prepared images; restore: told a fingerprint and its cache if the cache lacks
    a vector, may fill it, and says how many it put in.
    UserError if the engine that params.yaml names can't.
    """
    choice = engines.candidates(embed)
    for engine in choice:
        decides = ingredients(folder, engine)
        key = fingerprint(decides)
        cache = VectorCache(paths.CACHE / "vectors" / key, decides["encoder"]["dim"])
        images_there, lacking = count(photos, cache)
        if lacking and restore(key, cache):
            images_there, lacking = count(photos, cache)
        try:
            network = _network(folder, photos, engine, embed.batch_size) if lacking else None
        except CannotConvert as reason:
            fault = f"{engine.name} can't compute {folder} ({reason})"
            if engine == choice[-1]:
                raise UserError(f"{paths.PARAMS}: embed.engine: {fault}; say engine: auto or torch") from None
            log.info("%s; another engine does", fault)
            continue
        files.write_json(cache.folder / "ingredients.json", decides)
        return Vectors(
            engine,
            key,
            cache,
            network,
            images_there,
            lacking,
            pixel_ingredients(folder),
            decides["encoder"]["weights_sha256"],
        )
    raise AssertionError("no engine was tried")


def _network(folder: Path, photos: Path, engine: Engine, batch_size: int) -> Network:
    """Tried on the first images there are, so that the verdict is the same whichever of them are new."""
    encoder = encoders.load(folder)
    first = islice(decoding.prepared(photos, engines.PARITY_IMAGES), engines.PARITY_IMAGES)
    tried = [inference.decoded((image.image_id, image.data), encoder.transform) for image in first]
    return engines.prepare(engine, encoder, tried, batch_size, machine.threads())


def compute(vectors: Vectors, photos: Path, embed: Embed, measured: int = MEASURED) -> Work:
    """Computes the vectors that are lacking, and keeps each batch as soon as it is done. photos: prepared
    images.

    The first `measured` images are decoded anew and their pixels not kept, so that a row's speed doesn't
    depend on other rows.
    """
    if vectors.network is None:
        return Work(vectors.images, 0)
    network, cache, times, done = vectors.network, vectors.cache, [], []
    under_way: dict[str, bytes] = {}

    def photos_left() -> Iterator[tuple[str, bytes]]:
        for image_id, key, content in missing_photos(photos, cache):
            under_way[image_id] = key
            yield image_id, content

    with tqdm(total=vectors.lacking, unit="image", disable=None) as progress:

        def computed(photos_now: Iterable[tuple[str, bytes]], kept: PixelCache | None) -> Iterator[int]:
            for batch in inference.vectors(network, photos_now, embed.batch_size, machine.threads(), kept):
                cache.add(np.array([under_way.pop(image_id) for image_id in batch.ids], "S32"), batch.vectors)
                progress.update(len(batch.ids))
                yield len(batch.ids)

        left, start = photos_left(), time.perf_counter()
        for images_done in computed(islice(left, measured), None):
            done.append(images_done)
            times.append(time.perf_counter() - start)
        if vectors.lacking > measured:
            deque(computed(left, _kept_pixels(vectors, network, embed)), maxlen=0)
    cache.merge()
    if sum(done[1:]) < LEAST_MEASURED:
        return Work(vectors.images, vectors.lacking, sum(done), max(times, default=0.0))
    return Work(vectors.images, vectors.lacking, sum(done[1:]), times[-1] - times[0])


def _kept_pixels(vectors: Vectors, network: Network, embed: Embed) -> PixelCache | None:
    """None where the transform doesn't lead through 8-bit pixels, or none are to be kept."""
    if not embed.pixel_cache_gb or not isinstance(network.transform, LookUp):
        return None
    each = network.transform.pixels(Image.new("RGB", (64, 64))).nbytes
    folder = paths.CACHE / "pixels" / vectors.pixels_fingerprint
    return PixelCache(folder, vectors.pixels, embed.pixel_cache_gb * 1e9, vectors.images * each)


def ingredients(folder: Path, engine: Engine) -> dict[str, Any]:
    """All that decides a vector besides the image: of the encoder in `folder`, computed by an engine."""
    facts = files.read_json(folder / encoders.FACTS_FILE)
    encoders.check(folder, encoders.WEIGHTS_FILE, facts["weights_sha256"])
    code = (
        encoders,
        encoders.library(facts["library"]),
        inference,
        lookup_transform,
        engines,
        engine.library,
        tracing,
    )
    return {
        "encoder": {name: fact for name, fact in facts.items() if name not in encoders.NOT_DECIDING},
        "versions": encoders.versions(*facts["versions"], *engine.library.PACKAGES),
        "code": code_digest(*decoding.CODE, *(Path(str(module.__file__)) for module in code)),
        "engine": engine.name,
        "precision": engine.precision,
        "device": engine.device.type,
    }


def pixel_ingredients(folder: Path) -> dict[str, Any]:
    """All that decides an image's pixels besides its bytes: the facts of an encoder that its transform
    follows from.
    """
    facts = files.read_json(folder / encoders.FACTS_FILE)
    library = encoders.library(facts["library"])
    return {
        "encoder": {name: facts[name] for name in ("library", "image_size", "transform")},
        "versions": encoders.versions(*facts["versions"]),
        "code": code_digest(
            *decoding.CODE, *(Path(str(module.__file__)) for module in (encoders, library, lookup_transform))
        ),
    }


def count(photos: Path, cache: VectorCache) -> tuple[int, int]:
    """Images, each counted once, and how many of them have no vector in the cache."""
    total, lacking, last = 0, 0, b""
    for rows in parquet.read_shards(photos, ["image_id", "prepared_id"], 65_536):
        keys = vector_cache.keys(rows)
        first = keys != np.concatenate([np.array([last], "S32"), keys[:-1]])
        total += int(first.sum())
        lacking += int((first & ~cache.has(keys)).sum())
        last = keys[-1] if len(keys) else last
    return total, lacking


def missing_photos(photos: Path, cache: VectorCache) -> Iterator[tuple[str, bytes, bytes]]:
    """(image_id, key, encoded bytes) of the images whose vectors aren't kept, each once.

    Reads no other row group's bytes.
    """
    last = ""
    for file in parquet.shards(photos):
        with pq.ParquetFile(file, buffer_size=2**20) as shard:
            for group in range(shard.num_row_groups):
                known = (
                    shard.read_row_group(group, columns=["image_id", "prepared_id"])
                    .combine_chunks()
                    .to_batches()[0]
                )
                keys = vector_cache.keys(known)
                lacking = ~cache.has(keys)
                wanted = {
                    known.column("image_id")[row].as_py(): bytes(keys[row]) for row in np.flatnonzero(lacking)
                }
                if not wanted:
                    continue
                for rows in shard.iter_batches(
                    batch_size=16, row_groups=[group], columns=["image_id", "image"]
                ):
                    for image_id, content in zip(
                        rows.column("image_id").to_pylist(), rows.column("image"), strict=True
                    ):
                        if image_id in wanted and image_id != last:
                            last = image_id
                            yield image_id, wanted[image_id], content.as_py()


def write(model: str, part: Part, vectors: Vectors) -> int:
    """The row's embeddings of a part's prepared images, all of which have their vector by now.

    How many rows.
    """
    photos, cache = paths.images(part), vectors.cache

    def batches() -> Iterator[pa.RecordBatch]:
        for known in parquet.read_shards(photos, ["image_id", "split", "prepared_id"], 8_192):
            yield embeddings.embeddings_batch(known, cache.read(vector_cache.keys(known)))

    rows, origin = (
        parquet.count_rows(photos),
        embeddings.Origin(model, vectors.fingerprint, vectors.weights_sha256),
    )
    metadata = {**origin.metadata(), "dim": str(cache.dim)}
    schema = schemas.embeddings_schema(cache.dim)
    parquet.write_shards(
        paths.embeddings(model, part), schema, batches(), rows, schemas.VECTORS_PER_SHARD, metadata
    )
    return rows
