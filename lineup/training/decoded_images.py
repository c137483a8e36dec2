"""The pixels of all training images, each decoded once: in memory, or in a mapped file where they don't fit.

Batches take their pixels from one array in either case, so that the memory budget changes no result.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lineup import machine
from lineup.encoders.encoder import Transform
from lineup.errors import UserError
from lineup.photos import decoding
from lineup.storage import parquet
from lineup.training.data import Manifest, Parts

_STORED_PER_SHOWN_PX = 1.15  # stored images are a little larger than the crops that the network sees
_IMAGES_PER_READ = 256


@dataclass(frozen=True)
class Pixels:
    """The decoded images.

    Args:
        train: uint8 [N, 3, S, S], a little larger than the crops that the network sees.
        validation: float32 [M, 3, H, W], as the encoder's transform makes them.
    """

    train: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.float32]


def decode(
    folder: Path,
    manifest: Manifest,
    parts: Parts,
    transform: Transform,
    size: int,
    memory_mb: int,
    scratch: Path,
) -> Pixels:
    """Decodes both parts in one pass over the prepared shards.

    Args:
        folder: the shards.
        manifest: the images in them.
        parts: which of them are trained on and which are held out.
        transform: the encoder's.
        size: the side of the crops that the network sees, in pixels.
        memory_mb: pixels that take more than this are mapped from files without a name.
        scratch: a folder on the disk for those files.
    Raises:
        UserError: the disk has too little free space for them.
    """
    stored = math.ceil(size * _STORED_PER_SHOWN_PX)
    seen = tuple(transform(Image.new("RGB", (size, size))).shape)
    shapes = (len(parts.train), 3, stored, stored), (len(parts.validation), *seen)
    required = math.prod(shapes[0]) + 4 * math.prod(shapes[1])
    disk = None if required <= memory_mb * 10**6 else _with_free_space(scratch, required)
    pixels = Pixels(_array(shapes[0], np.uint8, disk), _array(shapes[1], np.float32, disk))
    train = {manifest.ids[row].item(): position for position, row in enumerate(parts.train)}
    validation = {manifest.ids[row].item(): position for position, row in enumerate(parts.validation)}

    def put(image_id: str, content: bytes) -> int:
        image = decoding.decode(content)
        if image_id in train:
            pixels.train[train[image_id]] = square(image, stored)
        else:
            pixels.validation[validation[image_id]] = transform(image).numpy()
        return 1

    done = 0
    with ThreadPoolExecutor(machine.threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in parquet.read_shards(folder, ["image_id", "image"], _IMAGES_PER_READ):
            ids, contents = (column.to_pylist() for column in batch.columns)
            images = zip(ids, contents, strict=True)
            used = [image for image in images if image[0] in train or image[0] in validation]
            done += sum(pool.map(lambda image: put(*image), used))
    assert done == len(train) + len(validation), f"{done} images are prepared, the manifest names more"
    return pixels


def square(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """The middle of an image, its shorter side scaled to `side`: uint8 [3, side, side]."""
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + side, top + side)
    )
    return np.asarray(resized, np.uint8).transpose(2, 0, 1)


def _with_free_space(folder: Path, required: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < required:
        raise UserError(
            f"decoded images take {required / 1e9:.1f} GB, more than memory_mb allows, and the disk has "
            f"{free / 1e9:.1f} GB free; free some, or lower image_size"
        )
    return folder


def _array(shape: tuple[int, ...], kind: Any, disk: Path | None) -> npt.NDArray[Any]:
    """An array in memory, or mapped from a file on `disk`.

    The file has no name, so it is gone when the process ends, however it ends.
    """
    if disk is None or 0 in shape:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=disk) as file:
        return np.memmap(file, kind, "w+", shape=shape)
