"""Encoded images through a network: decoded ahead in threads, computed in batches of one shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import nn

from stages.lib import images, paths
from stages.lib.encoders import Encoder, Transform
from stages.lib.errors import UserError

ENGINE, PRECISION = "torch", "float32"
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """ids: str, n of them; vectors: float32 [n, D]."""

    ids: list[str]
    vectors: Vectors


def run(encoder: Encoder, photos: Iterable[tuple[str, bytes]], batch_size: int, device: torch.device, threads: int) -> Iterator[Batch]:
    """The vectors of encoded images, batch by batch, in their order.

    Every batch has one shape (the last one is padded), so that no vector depends on how many images there are.
    UserError names the image whose vector is not finite, or zero.
    """
    module = _prepare(encoder.module, device)
    for ids, pixels in _decoded(photos, encoder.transform, batch_size, threads):
        vectors = _forward(module, pixels, device)[: len(ids)]
        _check(ids, vectors)
        yield Batch(ids, vectors)


def _prepare(module: nn.Module, device: torch.device) -> nn.Module:
    """In eval mode on its device, with arithmetic that is float32 throughout and the same in every run."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return module.eval().to(device)


def _decoded(
    photos: Iterable[tuple[str, bytes]], transform: Transform, batch_size: int, threads: int
) -> Iterator[tuple[list[str], torch.Tensor]]:
    """ids of a batch, and its pixels: float32 [batch_size, 3, H, W], zeros behind the last image.

    Threads decode ahead of the network: one batch, so that neither waits and memory stays bounded.
    """
    photos = iter(photos)

    def decode(photo: tuple[str, bytes]) -> torch.Tensor:
        try:
            return transform(images.decode(photo[1]))
        except images.BadImage as error:
            raise UserError(f"{_named(photo[0])} {error}; run `dvc repro -f preprocess`") from None

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ahead: deque[tuple[str, Future[torch.Tensor]]] = deque()
        try:
            while True:
                for photo in islice(photos, 2 * batch_size - len(ahead)):
                    ahead.append((photo[0], pool.submit(decode, photo)))
                if not ahead:
                    return
                now = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                first = now[0][1].result()
                pixels = torch.zeros(batch_size, *first.shape)
                for row, (_, decoded) in enumerate(now):
                    pixels[row] = decoded.result()
                yield [image_id for image_id, _ in now], pixels
        finally:
            for _, decoded in ahead:
                decoded.cancel()


def _forward(module: nn.Module, pixels: torch.Tensor, device: torch.device) -> Vectors:
    """float32 [B, 3, H, W] -> [B, D]."""
    try:
        with torch.inference_mode():
            return module(pixels.to(device, non_blocking=True)).float().cpu().numpy()
    except torch.cuda.OutOfMemoryError:
        raise UserError(f"{paths.PARAMS}: embed.batch_size {len(pixels)} doesn't fit the GPU's memory; halve it") from None


def _check(ids: list[str], vectors: Vectors) -> None:
    finite = np.all(np.isfinite(vectors), axis=1)
    bad = np.logical_or(~finite, ~vectors.any(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        fault = "only zeros" if finite[row] else "numbers that are not finite"
        raise UserError(f"{_named(ids[row])} gets a vector of {fault}; take that photo out, or check the row's weights, mean and std")


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
