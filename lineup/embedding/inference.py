"""Encoded images through a network, so that a vector depends on the image and the network alone.

The network always sees batches of one shape. On a CPU it always computes with one thread (engines/engine.py
says why), and so threads share the images and not the layers. A vector depends neither on the batch size nor
on how many threads or images there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from lineup import paths
from lineup.embedding.pixel_cache import PixelCache
from lineup.encoders.encoder import Transform
from lineup.engines import conversion, selection
from lineup.engines.engine import Network
from lineup.engines.lookup_transform import LookUp
from lineup.errors import UserError
from lineup.photos import decoding, image_opening
from lineup.settings.sections import Embed

In = TypeVar("In")
Out = TypeVar("Out")
Vectors = npt.NDArray[np.float32]
EncodedImage: TypeAlias = tuple[str, bytes]  # image_id, and the bytes of a file
# The least number of images in a thread's task. With one each, handing them over took a tenth of
# MobileNetV2's time; 16 and 32 save no more.
IMAGES_PER_TASK = 8


@dataclass(frozen=True)
class Batch:
    """ids: str, n of them; vectors: float32 [n, D]."""

    ids: list[str]
    vectors: Vectors


def vectors(
    network: Network,
    images: Iterable[EncodedImage],
    batch_size: int,
    threads: int,
    pixel_cache: PixelCache | None = None,
) -> Iterator[Batch]:
    """The vectors of images, in their order, about `batch_size` at a time.

    Args:
        batch_size: on a GPU the network's shape is used in its place.
        threads: processors to use.
        pixel_cache: of the network's transform. Pixels that it lacks are added.
    Raises:
        UserError: names the image that can't be decoded, or whose vector is zero or not finite.
    """
    if network.engine.device.type == "cpu":
        return _vectors_on_cpu(network, images, batch_size, threads, pixel_cache)
    return _vectors_on_gpu(network, images, threads, pixel_cache)


def _vectors_on_cpu(
    network: Network,
    images: Iterable[EncodedImage],
    batch_size: int,
    threads: int,
    pixel_cache: PixelCache | None,
) -> Iterator[Batch]:
    """Each thread decodes its own images and computes their vectors, so that none waits for another's."""

    def embed(group: list[EncodedImage]) -> Batch:
        return _joined([_forward(network, decode(part)) for part in _grouped(group, network.shape)])

    def decode(part: list[EncodedImage]) -> list[tuple[str, torch.Tensor]]:
        return [(image[0], decoded(image, network.transform, pixel_cache)) for image in part]

    # Threads wait for Python's lock and for the engine: two threads more than cores are a fifth faster on
    # two cores.
    workers = threads + 2
    with _single_threaded_pool(workers) as pool:
        groups = _grouped(images, max(network.shape, IMAGES_PER_TASK))
        yield from _rebatched(_in_order(pool, embed, groups, workers + 1), batch_size)


def _vectors_on_gpu(
    network: Network, images: Iterable[EncodedImage], threads: int, pixel_cache: PixelCache | None
) -> Iterator[Batch]:
    """The threads decode ahead while the GPU computes."""

    def decode(image: EncodedImage) -> tuple[str, torch.Tensor]:
        return image[0], decoded(image, network.transform, pixel_cache)

    with _single_threaded_pool(threads) as pool:
        pixels = _in_order(pool, decode, images, 2 * network.shape)
        for group in _grouped(pixels, network.shape):
            yield _forward(network, group, pinned=True)


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Threads in each of which torch computes with that thread alone."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def _forward(network: Network, images: list[tuple[str, torch.Tensor]], pinned: bool = False) -> Batch:
    """The vectors of at most `network.shape` images. UserError if one is zero or not finite."""
    pixels = conversion.padded([image for _, image in images], network.shape, pinned=pinned)
    batch = Batch([image_id for image_id, _ in images], network.forward(pixels)[: len(images)])
    _check(batch)
    return batch


def decoded(image: EncodedImage, transform: Transform, pixel_cache: PixelCache | None = None) -> torch.Tensor:
    """What the network sees of an image: float32 [3, H, W].

    Args:
        pixel_cache: see `vectors`.
    Raises:
        UserError: names an image that can't be decoded.
    """
    image_id, content = image
    try:
        if pixel_cache and isinstance(transform, LookUp):
            pixels = pixel_cache.take(content, lambda: transform.pixels(decoding.decode(content)))
            return transform.to_tensor(pixels)
        return transform(decoding.decode(content))
    except image_opening.BadImage as error:
        raise UserError(f"{_named(image_id)} {error}; run `dvc repro -f preprocess`") from None


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """function(item) of each item, in their order, computed by the pool.

    Args:
        ahead: the largest number of results that are being computed or wait to be taken.
    """
    items = iter(items)
    pending = deque(pool.submit(function, item) for item in islice(items, ahead))
    try:
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()


def _grouped(items: Iterable[In], size: int) -> Iterator[list[In]]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def _rebatched(parts: Iterable[Batch], min_images: int) -> Iterator[Batch]:
    """Parts joined to batches of at least `min_images` images; the last may have fewer."""
    gathered: list[Batch] = []
    for part in parts:
        gathered.append(part)
        if sum(len(batch.ids) for batch in gathered) >= min_images:
            yield _joined(gathered)
            gathered = []
    if gathered:
        yield _joined(gathered)


def _joined(parts: list[Batch]) -> Batch:
    return Batch(
        [image_id for part in parts for image_id in part.ids],
        np.concatenate([part.vectors for part in parts]),
    )


def _check(batch: Batch) -> None:
    """Raises UserError if a vector is zero or not finite, with the first such image."""
    finite = np.all(np.isfinite(batch.vectors), axis=1)
    bad = np.logical_or(~finite, ~batch.vectors.any(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        fault = "only zeros" if finite[row] else "numbers that are not finite"
        raise UserError(
            f"{_named(batch.ids[row])} gets a vector of {fault}; "
            "remove that photo, or check the row's weights, mean and std"
        )


def _named(image_id: str) -> str:
    """An image's path in data/raw and its id; the id alone where the manifest lacks it."""
    manifest = paths.manifest("test")
    if manifest.exists():
        table = pq.read_table(manifest, columns=["paths"], filters=[("image_id", "=", image_id)])
        if table.num_rows and table.column("paths")[0].as_py():
            return f"{paths.RAW / table.column('paths')[0].as_py()[0]!s} (image_id {image_id})"
    return f"image_id {image_id}"


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Where torch computes. Raises UserError if a GPU is asked for and there is none."""
    return selection.candidates(Embed(device=wanted, engine="torch"))[0].device
