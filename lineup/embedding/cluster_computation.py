"""Missing vectors, computed on the cluster: photos go out in batches, and their vectors go into the cache.

A task on this machine's node reads the shards, so that no other node needs them. Ray Data holds it back once
the photos on their way fill their share of Ray's object store: memory does not grow with their number.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from lineup import cluster, paths
from lineup.cluster import Cluster
from lineup.embedding import cache_key, cluster_relay, cluster_stream, inference, missing_photos
from lineup.embedding.attempts import Attempts
from lineup.embedding.cluster_relay import RelayFault
from lineup.embedding.cluster_stream import Crew
from lineup.embedding.cluster_worker import PHOTOS, QUANTISED, Work
from lineup.embedding.inference import EncodedImage
from lineup.embedding.job import EmbedJob, quantised_folder
from lineup.embedding.missing_photos import MissingPhoto
from lineup.encoders import encoder_folder
from lineup.encoders.encoder_config import CONFIG_FILE
from lineup.engines import conversion
from lineup.engines.engine import Engine
from lineup.errors import UserError, reason
from lineup.photos import prepared_images
from lineup.settings.sections import Embed

log = logging.getLogger(__name__)

# With fewer, a worker's threads would wait for each other at the end of each batch, and what Ray does for a
# batch would count: benchmarks/RESULTS.md compares 32 with 128.
_PHOTOS_PER_THREAD = 128
_BATCH_BYTES = 16 * 2**20
# Where there are few photos, batches are smaller, so that every worker gets some.
_LEAST_BATCHES_PER_WORKER = 4
_LEAST_PHOTOS_PER_BATCH = 8
_MAX_THREADS_PER_WORKER = 8
# The least share of the processors that workers of equal size must use.
_LEAST_SHARE_USED = 0.9
_IMAGE_ID = re.compile("^image_id ([0-9a-f]{64})")


def compute(job: EmbedJob, embed: Embed, progress: tqdm[Any]) -> None:
    """Computes all vectors that are missing.

    Raises:
        UserError: names the photo that has no vector, or says what is wrong with the cluster.
    """
    ray = cluster.connect()
    missing = _missing(job)
    if not missing:
        return
    available = cluster.describe(ray)
    crew = _crew(available, job.engine.device.type)
    work = _work(ray, job, embed, crew)
    log.info("%d images on the Ray cluster: %s", missing, available.described())
    while missing:
        fault = _round(ray, job, work, crew, missing, progress)
        job.cache.merge()
        before, missing = missing, _missing(job)
        if missing == before:
            why = fault or "without a reason"
            raise UserError(
                f"{cluster.ADDRESS_VARIABLE}: the Ray cluster computes nothing ({why}); look at its nodes "
                f"with `ray status`, or unset {cluster.ADDRESS_VARIABLE}"
            )
        if missing:
            log.warning("%d images go to the cluster again: %s", missing, fault or "their batches were lost")


def _missing(job: EmbedJob) -> int:
    return missing_photos.count(job.photos, job.cache).missing


def _crew(available: Cluster, device: str) -> Crew:
    """Workers of one size. Raises UserError if the cluster lacks what they compute with."""
    if device == "cuda":
        with_gpu = [node for node in available.nodes if node.gpus >= 1 and node.cpus >= 1]
        if not with_gpu:
            raise UserError(f"{paths.PARAMS}: embed.device is cuda, but no node of the Ray cluster has a GPU")
        threads = min(max(1, node.cpus // node.gpus) for node in with_gpu)
        return Crew(sum(node.gpus for node in with_gpu), min(threads, _MAX_THREADS_PER_WORKER), 1)
    if not available.cpus:
        raise UserError(f"{cluster.ADDRESS_VARIABLE}: no node of the Ray cluster has a processor to give")
    threads = _threads_per_worker([node.cpus for node in available.nodes])
    return Crew(sum(node.cpus // threads for node in available.nodes), threads, 0)


def _threads_per_worker(cpus: list[int]) -> int:
    """The largest number that leaves few processors idle: each worker holds the network in memory once."""
    for threads in range(_MAX_THREADS_PER_WORKER, 1, -1):
        if sum(count // threads * threads for count in cpus) >= _LEAST_SHARE_USED * sum(cpus):
            return threads
    return 1


def _work(ray: Any, job: EmbedJob, embed: Embed, crew: Crew) -> Work:
    first = islice(prepared_images.stream(job.photos, conversion.PARITY_IMAGES), conversion.PARITY_IMAGES)
    sample = [(image.image_id, image.data) for image in first]
    quantised = quantised_folder(job.row, job.engine)
    return work_for(ray, job.folder, sample, job.engine, embed.batch_size, crew.threads, quantised)


def work_for(
    ray: Any,
    folder: Path,
    sample: Sequence[EncodedImage],
    engine: Engine,
    batch_size: int,
    threads: int,
    quantised: Path | None = None,
) -> Work:
    """What workers need to compute an encoder. Its weights are in Ray's object store once for each node.

    Args:
        folder: of the encoder.
        sample: prepared images, on which the engine is compared with torch.
        quantised: the folder of the encoder's network in int8; None in other precisions.
    """
    files = {
        name: np.fromfile(folder / name, np.uint8) for name in (CONFIG_FILE, encoder_folder.WEIGHTS_FILE)
    }
    if quantised:
        names = (file.name for file in sorted(quantised.iterdir()))
        files |= {f"{QUANTISED}/{name}": np.fromfile(quantised / name, np.uint8) for name in names}
    attempts = ray.remote(Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    return Work(
        ray.put(files),
        tuple(sample),
        engine.name,
        engine.precision,
        engine.device.type,
        batch_size,
        threads,
        cache_key.vector_key_parts(folder, engine, quantised),
        attempts,
    )


def _round(ray: Any, job: EmbedJob, work: Work, crew: Crew, missing: int, progress: tqdm[Any]) -> str:
    """Sends all missing photos out, and caches what comes back.

    Returns:
        Ray's fault that ended it early; empty if there was none.
    Raises:
        UserError: names the photo or the node at fault.
    """
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    results = _vectors(ray, job, work, crew, missing)
    try:
        for rows in results:
            for row in rows.to_pylist():
                _take(job, row, progress)
    except (RayError, ExecutionTimeoutError, RelayFault) as error:
        return reason(getattr(error, "cause", None) or error)  # an error of a task names its cause last
    finally:
        results.close()
    return ""


def _take(job: EmbedJob, row: dict[str, Any], progress: tqdm[Any]) -> None:
    """Caches the vectors of a row of cluster_worker.VECTORS. UserError if it reports a fault."""
    keys = np.frombuffer(row["keys"], "S32")
    if len(keys):
        job.cache.add(keys, np.frombuffer(row["vectors"], np.float32).reshape(len(keys), -1))
        progress.update(len(keys))
    if row["fault"]:
        # The worker has no manifest, which names the photo's file.
        named = inference._named  # pyright: ignore[reportPrivateUsage]
        raise UserError(_IMAGE_ID.sub(lambda match: named(match[1]), row["fault"]))


def _vectors(ray: Any, job: EmbedJob, work: Work, crew: Crew, missing: int) -> Generator[pa.Table]:
    """Tables of cluster_worker.VECTORS, in any order."""
    per_worker = -(-missing // (_LEAST_BATCHES_PER_WORKER * crew.workers))
    photos_per_batch = min(_PHOTOS_PER_THREAD * crew.threads, max(per_worker, _LEAST_PHOTOS_PER_BATCH))
    folder, keys = job.photos.resolve(), job.cache.ids()
    if cluster.is_client():
        yield from cluster_relay.vectors(ray, work, crew, _batches(folder, photos_per_batch, KnownKeys(keys)))
    else:
        source = {"folder": folder, "photos_per_batch": photos_per_batch, "cached": ray.put(keys)}
        yield from cluster_stream.vectors(ray, work, crew, read_batches, source)


def read_batches(_: pa.Table, folder: Path, photos_per_batch: int, cached: Any) -> Iterator[pa.Table]:
    """Reads the photos without a vector, on the node whose disk has them.

    Args:
        folder: of the prepared images.
        cached: Ray's reference to the keys that had a vector when the round began, sorted.
    Yields:
        rows of cluster_worker.PHOTOS, the same ones whenever it is called.
    """
    import ray

    yield from _batches(folder, photos_per_batch, KnownKeys(ray.get(cached)))


def _batches(folder: Path, photos_per_batch: int, cached: KnownKeys) -> Iterator[pa.Table]:
    batch: list[MissingPhoto] = []
    size = 0
    for photo in missing_photos.read(folder, cached):
        batch.append(photo)
        size += len(photo.content)
        if len(batch) == photos_per_batch or size >= _BATCH_BYTES:
            yield as_row(batch)
            batch, size = [], 0
    if batch:
        yield as_row(batch)


@dataclass(frozen=True)
class KnownKeys:
    """The keys that had a vector when the run began: S32 [N], sorted."""

    keys: npt.NDArray[np.bytes_]

    def has(self, keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
        """Which of the keys are among them: S32 [N] -> bool [N]."""
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        return self.keys[np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)] == keys


def as_row(photos: Sequence[MissingPhoto]) -> pa.Table:
    """A batch of photos as one row of cluster_worker.PHOTOS."""
    columns = (
        [photo.image_id for photo in photos],
        [photo.key for photo in photos],
        [photo.content for photo in photos],
    )
    return pa.table(
        [pa.array([column], field.type) for column, field in zip(columns, PHOTOS, strict=True)], schema=PHOTOS
    )
