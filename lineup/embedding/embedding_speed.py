"""How fast a row's network embeds prepared images in batches, timed in turns with the reference load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import NamedTuple

from lineup.embedding import inference
from lineup.embedding.inference import EncodedImage
from lineup.embedding.reference_load import ReferenceLoad
from lineup.engines.engine import Network

SECONDS_PER_ROUND = 0.25
_REFERENCE_RUNS = 6  # in each thread, after each round


class Round(NamedTuple):
    """Some images that were embedded one batch after the other.

    processor_seconds: which all threads of this process got meanwhile; reference_seconds: the median of the
    reference load after it, with as many threads.
    """

    images: int
    seconds: float
    processor_seconds: float
    reference_seconds: float


class BatchEmbedder:
    """Embeds some images again and again, as `embed` does, in rounds of equal size."""

    def __init__(
        self,
        network: Network,
        images: Sequence[EncodedImage],
        batch_size: int,
        threads: int,
        reference: ReferenceLoad,
    ) -> None:
        """A warm-up decides how many images fill SECONDS_PER_ROUND."""
        self._network, self._images = network, cycle(images)
        self._batch_size, self._threads, self._reference = batch_size, threads, reference
        group = max(network.shape, inference.IMAGES_PER_TASK) * threads
        self._seconds(group)
        self._size = max(1, round(SECONDS_PER_ROUND / self._seconds(group))) * group

    def rounds(self, count: int) -> list[Round]:
        """So many rounds, each followed by the reference load."""
        return [self._round() for _ in range(count)]

    def _round(self) -> Round:
        before = time.process_time()
        seconds = self._seconds(self._size)
        processor_seconds = time.process_time() - before
        reference_seconds = self._reference.seconds_in_parallel(self._threads, _REFERENCE_RUNS)
        return Round(self._size, seconds, processor_seconds, reference_seconds)

    def _seconds(self, images: int) -> float:
        start = time.perf_counter()
        some = islice(self._images, images)
        for _ in inference.vectors(self._network, some, self._batch_size, self._threads):
            pass
        return time.perf_counter() - start
