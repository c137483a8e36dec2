"""Encoded images through a network, so that a vector depends on the image and the network alone."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import nn

from stages.lib import images, paths
from stages.lib.encoders import Encoder
from stages.lib.errors import UserError

ENGINE, PRECISION = "torch", "float32"
CPU_SHAPE = 8  # images; larger ones are no faster, and take more memory
In = TypeVar("In")
Out = TypeVar("Out")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """ids: str, n of them; vectors: float32 [n, D]."""

    ids: list[str]
    vectors: Vectors


def run(encoder: Encoder, photos: Iterable[tuple[str, bytes]], batch_size: int, device: torch.device, threads: int) -> Iterator[Batch]:
    """The vectors of encoded images, in their order, about `batch_size` at a time.

    The network always sees one shape, and on a processor always one thread: which of its kernels oneDNN takes, and so the
    last bit, follows from both (tried). So threads share the images, not the layers, and a vector depends neither on
    batch_size nor on how many threads or images there are. On a GPU batch_size is the shape.
    UserError names the image whose vector is not finite, or zero.
    """
    module = _prepare(encoder.module, device)

    def pixels_of(photo: tuple[str, bytes]) -> tuple[str, torch.Tensor]:
        try:
            return photo[0], encoder.transform(images.decode(photo[1]))
        except images.BadImage as error:
            raise UserError(f"{_named(photo[0])} {error}; run `dvc repro -f preprocess`") from None

    def vectors_of(decoded: list[tuple[str, torch.Tensor]], shape: int) -> Batch:
        pixels = torch.zeros(shape, *decoded[0][1].shape)  # zeros behind the last image
        for row, (_, image) in enumerate(decoded):
            pixels[row] = image
        batch = Batch([image_id for image_id, _ in decoded], _forward(module, pixels, device)[: len(decoded)])
        _check(batch)
        return batch

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        if device.type == "cpu":
            parts = _ordered(
                pool, lambda part: vectors_of([pixels_of(photo) for photo in part], CPU_SHAPE), _grouped(photos, CPU_SHAPE), threads + 1
            )
            yield from _joined(parts, batch_size)
        else:
            decoded = _ordered(pool, pixels_of, photos, 2 * batch_size)
            yield from (vectors_of(group, batch_size) for group in _grouped(decoded, batch_size))


def _ordered(pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], ahead: int) -> Iterator[Out]:
    """function(item) of each item, in order, computed by the pool; at most `ahead` are under way or wait to be taken."""
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
    return Batch([image_id for part in parts for image_id in part.ids], np.concatenate([part.vectors for part in parts]))


def _prepare(module: nn.Module, device: torch.device) -> nn.Module:
    """In eval mode on its device, with arithmetic that is float32 throughout and the same in every run."""
    _keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return module.eval().to(device)


def _keep_freed_memory() -> None:
    """Lets glibc reuse the memory of activations; by default it returns each to the system and gets it back, zeroed, at once.

    That took more than half of the processor time of a forward pass. Without glibc nothing happens.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def _forward(module: nn.Module, pixels: torch.Tensor, device: torch.device) -> Vectors:
    """float32 [B, 3, H, W] -> [B, D]."""
    try:
        with torch.inference_mode():
            return module(pixels.to(device, non_blocking=True)).float().cpu().numpy()
    except torch.cuda.OutOfMemoryError:
        raise UserError(f"{paths.PARAMS}: embed.batch_size {len(pixels)} doesn't fit the GPU's memory; halve it") from None


def _check(batch: Batch) -> None:
    finite = np.all(np.isfinite(batch.vectors), axis=1)
    bad = np.logical_or(~finite, ~batch.vectors.any(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        fault = "only zeros" if finite[row] else "numbers that are not finite"
        raise UserError(f"{_named(batch.ids[row])} gets a vector of {fault}; take that photo out, or check the row's weights, mean and std")


def _named(image_id: str) -> str:
    """An image as the user knows it: by its path, where the manifest tells it."""
    manifest = paths.manifest("test")
    if manifest.exists():
        table = pq.read_table(manifest, columns=["paths"], filters=[("image_id", "=", image_id)])
        if table.num_rows and table.column("paths")[0].as_py():
            return f"{paths.RAW / table.column('paths')[0].as_py()[0]!s} (image_id {image_id})"
    return f"image_id {image_id}"


def choose_device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{paths.PARAMS}: embed.device is cuda, but torch finds no CUDA GPU here; say auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
