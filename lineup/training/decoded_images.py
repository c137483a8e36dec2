"""Every training image decoded once: into memory, or, where that would be too much, into a file that is
mapped.

Either way batches take their pixels from one array, so the budget of memory has no say in the result.
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

_MARGIN = 1.15  # stored images are this much larger than a crop of them is shown
_AT_ONCE = 256


@dataclass(frozen=True)
class Pixels:
    """train: uint8 [N, 3, S, S], a bit larger than crops of them.

    Validation: float32 [M, 3, H, W], as the encoder sees them.
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
    """The pixels of both parts, in one pass over the prepared shards; beyond memory_mb in nameless files on
    `scratch`'s disk.

    size: pixels that a crop is shown at. UserError if the disk has no room.
    """
    stored = math.ceil(size * _MARGIN)
    seen = tuple(transform(Image.new("RGB", (size, size))).shape)
    shapes = (len(parts.train), 3, stored, stored), (len(parts.validation), *seen)
    required = math.prod(shapes[0]) + 4 * math.prod(shapes[1])
    disk = None if required <= memory_mb * 10**6 else _with_room(scratch, required)
    pixels = Pixels(_array(shapes[0], np.uint8, disk), _array(shapes[1], np.float32, disk))
    of_train = {manifest.ids[row].item(): i for i, row in enumerate(parts.train)}
    of_validation = {manifest.ids[row].item(): i for i, row in enumerate(parts.validation)}

    def put(image_id: str, content: bytes) -> int:
        image = decoding.decode(content)
        if image_id in of_train:
            pixels.train[of_train[image_id]] = square(image, stored)
        else:
            pixels.validation[of_validation[image_id]] = transform(image).numpy()
        return 1

    done = 0
    with ThreadPoolExecutor(machine.threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in parquet.read_shards(folder, ["image_id", "image"], _AT_ONCE):
            ids, contents = (column.to_pylist() for column in batch.columns)
            wanted = [
                pair
                for pair in zip(ids, contents, strict=True)
                if pair[0] in of_train or pair[0] in of_validation
            ]
            done += sum(pool.map(lambda pair: put(*pair), wanted))
    assert done == len(of_train) + len(of_validation), f"{done} images are prepared, the manifest names more"
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


def _with_room(folder: Path, required: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < required:
        told = f"decoded images take {required / 1e9:.1f} GB, more than memory_mb allows, and the disk has {free / 1e9:.1f} GB free"
        raise UserError(f"{told}; free some, or lower image_size")
    return folder


def _array(shape: tuple[int, ...], kind: Any, disk: Path | None) -> npt.NDArray[Any]:
    """In memory, or mapped from a file without a name, which goes when the process ends, however it ends."""
    if disk is None or 0 in shape:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=disk) as file:
        return np.memmap(file, kind, "w+", shape=shape)
