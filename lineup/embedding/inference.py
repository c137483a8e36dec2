"""Encoded images through a network, so that a vector depends on the image and the network alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from lineup import paths
from lineup.embedding.pixel_cache import PixelCache
from lineup.encoders.encoder import Transform
from lineup.engines import engine as engines
from lineup.engines.engine import Network
from lineup.engines.lookup_transform import LookUp
from lineup.errors import UserError
from lineup.photos import decoding
from lineup.settings.params import Embed

In = TypeVar("In")
Out = TypeVar("Out")
Vectors = npt.NDArray[np.float32]
# Images, or more, that a thread is given; one by one, handing over took a tenth of MobileNetV2's time; 16 and
# 32 save no more.
AT_ONCE = 8


@dataclass(frozen=True)
class Batch:
    """ids: str, n of them; vectors: float32 [n, D]."""

    ids: list[str]
    vectors: Vectors


def vectors(
    network: Network,
    photos: Iterable[tuple[str, bytes]],
    batch_size: int,
    threads: int,
    kept: PixelCache | None = None,
) -> Iterator[Batch]:
    """The vectors of encoded images, in their order, about `batch_size` at a time.

    threads: processors to use. The network always sees one shape, and on a processor always one thread
    (lineup/engines/engine.py says why). So threads share the images, not the layers, and a vector depends
    neither on batch_size nor on how many threads or images there are. On a processor each thread decodes its
    images and computes their vectors: none waits for another's. On a GPU batch_size is the shape, and the
        threads decode ahead while it computes.
    kept: pixels of the network's transform, taken where they are there, and kept where not.
    UserError names the image whose vector is not finite, or zero.
    """
    gpu = network.engine.device.type != "cpu"

    def pixels_of(photo: tuple[str, bytes]) -> tuple[str, torch.Tensor]:
        return photo[0], decoded(photo, network.transform, kept)

    def vectors_of(images_now: list[tuple[str, torch.Tensor]]) -> Batch:
        pixels = engines.padded([image for _, image in images_now], network.shape, pinned=gpu)
        batch = Batch([image_id for image_id, _ in images_now], network.forward(pixels)[: len(images_now)])
        _check(batch)
        return batch

    def decoded_and_computed(photos_now: list[tuple[str, bytes]]) -> Batch:
        return _one(
            [
                vectors_of([pixels_of(photo) for photo in group])
                for group in _grouped(photos_now, network.shape)
            ]
        )

    workers = (
        threads if gpu else threads + 2
    )  # as some wait for one another's Python, and for the engine; a fifth faster on two cores
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        if gpu:
            ready = _ordered(pool, pixels_of, photos, 2 * network.shape)
            yield from (vectors_of(group) for group in _grouped(ready, network.shape))
        else:
            parts = _grouped(photos, max(network.shape, AT_ONCE))
            yield from _joined(_ordered(pool, decoded_and_computed, parts, workers + 1), batch_size)


def decoded(photo: tuple[str, bytes], transform: Transform, kept: PixelCache | None = None) -> torch.Tensor:
    """(image_id, encoded bytes) -> float32 [3, H, W].

    kept: as in `vectors`. UserError names an image that can't be decoded.
    """
    image_id, content = photo
    try:
        if kept and isinstance(transform, LookUp):
            return transform.numbers(kept.take(content, lambda: transform.pixels(decoding.decode(content))))
        return transform(decoding.decode(content))
    except decoding.BadImage as error:
        raise UserError(f"{_named(image_id)} {error}; run `dvc repro -f preprocess`") from None


def _ordered(
    pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """function(item) of each item, in order, computed by the pool.

    At most `ahead` are under way or wait to be taken.
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


def _joined(parts: Iterable[Batch], least: int) -> Iterator[Batch]:
    """Parts put together to at least so many images."""
    gathered: list[Batch] = []
    for part in parts:
        gathered.append(part)
        if sum(len(one.ids) for one in gathered) >= least:
            yield _one(gathered)
            gathered = []
    if gathered:
        yield _one(gathered)


def _one(parts: list[Batch]) -> Batch:
    return Batch(
        [image_id for part in parts for image_id in part.ids],
        np.concatenate([part.vectors for part in parts]),
    )


def _check(batch: Batch) -> None:
    finite = np.all(np.isfinite(batch.vectors), axis=1)
    bad = np.logical_or(~finite, ~batch.vectors.any(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        fault = "only zeros" if finite[row] else "numbers that are not finite"
        raise UserError(
            f"{_named(batch.ids[row])} gets a vector of {fault}; take that photo out, or check the row's weights, mean and std"
        )


def _named(image_id: str) -> str:
    """An image as the user knows it: by its path, where the manifest tells it."""
    manifest = paths.manifest("test")
    if manifest.exists():
        table = pq.read_table(manifest, columns=["paths"], filters=[("image_id", "=", image_id)])
        if table.num_rows and table.column("paths")[0].as_py():
            return f"{paths.RAW / table.column('paths')[0].as_py()[0]!s} (image_id {image_id})"
    return f"image_id {image_id}"


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """UserError if a GPU is asked for that isn't there."""
    return engines.candidates(Embed(device=wanted, engine="torch"))[0].device
