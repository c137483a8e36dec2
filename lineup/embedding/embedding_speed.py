"""How fast a row's network embeds prepared images in batches, in rounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import NamedTuple

from lineup import machine
from lineup.embedding import inference
from lineup.embedding.inference import EncodedImage
from lineup.engines.engine import Network

SECONDS_PER_ROUND = 0.4


class Round(NamedTuple):
    """Some images that were embedded one batch after the other; slowdown: see `machine.Load`."""

    images_per_second: float
    slowdown: float


class BatchEmbedder:
    """Embeds some images again and again, as `embed` does, in rounds of equal size."""

    def __init__(
        self, network: Network, images: Sequence[EncodedImage], batch_size: int, threads: int
    ) -> None:
        """A warm-up decides how many images fill SECONDS_PER_ROUND."""
        self._network, self._images = network, cycle(images)
        self._batch_size, self._threads = batch_size, threads
        group = max(network.shape, inference.IMAGES_PER_TASK) * threads
        self._seconds(group)
        self._size = max(1, round(SECONDS_PER_ROUND / self._seconds(group))) * group

    def round(self) -> Round:
        """Embeds the images of a round."""
        meter = machine.LoadMeter()
        seconds = self._seconds(self._size)
        return Round(self._size / seconds, meter.load().slowdown)

    def _seconds(self, images: int) -> float:
        start = time.perf_counter()
        some = islice(self._images, images)
        for _ in inference.vectors(self._network, some, self._batch_size, self._threads):
            pass
        return time.perf_counter() - start
