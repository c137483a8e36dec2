"""A fixed computation that is timed in turns with a row, as a measure of how busy the machine is.

It resembles a query: a JPEG is decoded and resized, and convolved. Rows that were measured at different times
can be compared through it.
"""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from PIL import Image

_PHOTO_SIDE_PX = 384
_SIDE_PX = 112
_CHANNELS = 32


class ReferenceLoad:
    """The computation on a device, with one thread in each call of `seconds`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @cached_property
    def _photo(self) -> bytes:
        pixels = np.random.default_rng(0).integers(
            0, 256, (_PHOTO_SIDE_PX // 8, _PHOTO_SIDE_PX // 8, 3), np.uint8
        )
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((_PHOTO_SIDE_PX, _PHOTO_SIDE_PX)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    @cached_property
    def _weights(self) -> torch.Tensor:
        return torch.ones(_CHANNELS, _CHANNELS, 3, 3, device=self._device)

    def seconds(self) -> float:
        """How long the computation takes now, in the calling thread."""
        photo, weights = self._photo, self._weights
        start = time.perf_counter()
        rgb = Image.open(io.BytesIO(photo)).convert("RGB").resize((_SIDE_PX, _SIDE_PX))
        plane = torch.from_numpy(np.asarray(rgb, np.float32)[None, None, :, :, 0]).to(self._device)
        with torch.inference_mode():
            float(torch.nn.functional.conv2d(plane.expand(1, _CHANNELS, -1, -1), weights, padding=1).sum())
        return time.perf_counter() - start

    def seconds_in_parallel(self, threads: int, runs: int) -> float:
        """The median of `runs` computations in each of so many threads at once."""
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            times = [*pool.map(lambda _: self.seconds(), range(threads * runs))]
        return float(np.median(times))
