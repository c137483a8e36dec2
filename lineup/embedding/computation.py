"""Computes the vectors that are missing; each is in the cache as soon as its batch is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from lineup import cluster, machine, paths
from lineup.embedding import inference, missing_photos
from lineup.embedding.inference import EncodedImage
from lineup.embedding.job import EmbedJob
from lineup.embedding.pixel_cache import PixelCache
from lineup.engines.engine import Network
from lineup.engines.lookup_transform import LookUp
from lineup.settings.sections import Embed

# The number of images, at the start of a run, whose speed is measured. Decoding them takes seconds.
MEASURED_IMAGES = 4_096
# The first batch is left out of the measurement only if at least this many images follow it. Of fewer, too
# large a share would have been under way already when it was done.
MIN_IMAGES_AFTER_FIRST_BATCH = 512
# The cluster waits while this machine measures, so it measures fewer images, and not for long.
MEASURED_IMAGES_BESIDE_CLUSTER = 640
MAX_MEASURED_SECONDS = 20.0


@dataclass(frozen=True)
class EmbedStats:
    """What a run computed, and how fast.

    Attributes:
        images: how many there are.
        computed: of those, how many had no vector before.
        measured_images: how many were computed in `measured_seconds`; 0 if nothing was computed.
    """

    images: int
    computed: int
    measured_images: int = 0
    measured_seconds: float = 0.0


def compute(job: EmbedJob, embed: Embed, measured: int = MEASURED_IMAGES) -> EmbedStats:
    """Computes all vectors that are missing: where RAY_ADDRESS is set, on that cluster.

    The first `measured` images are decoded without the cache of pixels, so that a row's speed doesn't depend
    on other rows. They are computed on this machine, so that the speed doesn't depend on the cluster either.

    Raises:
        UserError: names an image that has no vector, or says what is wrong with the cluster.
    """
    if job.network is None:
        return EmbedStats(job.images, 0)
    on_cluster = cluster.address() is not None
    if on_cluster:
        cluster.connect()
    with tqdm(total=job.missing, unit="image", disable=None) as progress:
        computation = _Computation(job, job.network, embed.batch_size, progress)
        if on_cluster:
            few = computation.batches(min(measured, MEASURED_IMAGES_BESIDE_CLUSTER), None)
            images, seconds = _measure(_until(time.perf_counter() + MAX_MEASURED_SECONDS, few))
            _compute_on_cluster(job, embed, progress)
        else:
            images, seconds = _measure(computation.batches(measured, None))
            if job.missing > measured:
                rest = computation.batches(None, _pixel_cache(job, job.network, embed))
                deque(rest, maxlen=0)
    job.cache.merge()
    return EmbedStats(job.images, job.missing, images, seconds)


def _compute_on_cluster(job: EmbedJob, embed: Embed, progress: tqdm[Any]) -> None:
    from lineup.embedding import cluster_computation  # It is needed on a cluster alone.

    cluster_computation.compute(job, embed, progress)


def _until(end: float, batches: Iterator[int]) -> Iterator[int]:
    """Batches that are done before `end`, by `time.perf_counter`, and one more."""
    for size in batches:
        yield size
        if time.perf_counter() > end:
            return


def _measure(batches: Iterable[int]) -> tuple[int, float]:
    """Runs through batches, and returns how many images took how many seconds.

    The first batch is left out where enough images follow it.

    Args:
        batches: the number of images in each batch, once it is done.
    """
    start = time.perf_counter()
    sizes, times = [], []
    for size in batches:
        sizes.append(size)
        times.append(time.perf_counter() - start)
    if sum(sizes[1:]) < MIN_IMAGES_AFTER_FIRST_BATCH:
        return sum(sizes), max(times, default=0.0)
    return sum(sizes[1:]), times[-1] - times[0]


class _Computation:
    """One pass over the images whose vectors are missing."""

    def __init__(self, job: EmbedJob, network: Network, batch_size: int, progress: tqdm[Any]) -> None:
        self._job, self._network, self._batch_size, self._progress = job, network, batch_size, progress
        self._keys: dict[str, bytes] = {}  # the cache key of each image that was read and has no vector yet
        self._images = self._read()

    def _read(self) -> Iterator[EncodedImage]:
        for photo in missing_photos.read(self._job.photos, self._job.cache):
            self._keys[photo.image_id] = photo.key
            yield photo.image_id, photo.content

    def batches(self, images: int | None, pixel_cache: PixelCache | None) -> Iterator[int]:
        """Computes and caches the vectors of the next images, None for all that are left.

        Yields:
            the number of images in each batch, once it is done.
        """
        some = islice(self._images, images)
        for batch in inference.vectors(self._network, some, self._batch_size, machine.threads(), pixel_cache):
            keys = np.array([self._keys.pop(image_id) for image_id in batch.ids], "S32")
            self._job.cache.add(keys, batch.vectors)
            self._progress.update(len(batch.ids))
            yield len(batch.ids)


def _pixel_cache(job: EmbedJob, network: Network, embed: Embed) -> PixelCache | None:
    """None where the settings allow no disk for it, or the transform doesn't lead through 8-bit pixels."""
    if not embed.pixel_cache_gb or not isinstance(network.transform, LookUp):
        return None
    bytes_per_image = network.transform.pixels(Image.new("RGB", (64, 64))).nbytes
    return PixelCache(
        paths.CACHE / "pixels" / job.pixel_key,
        job.pixel_key_parts,
        embed.pixel_cache_gb * 1e9,
        job.images * bytes_per_image,
    )
