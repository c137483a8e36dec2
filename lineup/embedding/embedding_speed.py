"""How fast a row's network embeds prepared images, timed in turns with the reference load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from lineup.embedding import inference
from lineup.embedding.inference import EncodedImage
from lineup.embedding.reference_load import ReferenceLoad
from lineup.engines.engine import Network

ROUNDS = 5
SECONDS_PER_ROUND = 0.5
MOST_SECONDS = 20.0
_REFERENCE_RUNS = 6  # in each thread, after each round


@dataclass(frozen=True)
class Rounds:
    """images_per_second, reference_seconds: of each round.

    processor_share: of the processors' time, the share that this process got while it embedded.
    """

    images_per_second: list[float]
    reference_seconds: list[float]
    processor_share: float


def measure(
    network: Network, images: Sequence[EncodedImage], batch_size: int, threads: int, reference: ReferenceLoad
) -> Rounds:
    """Embeds some images again and again, in rounds of equal size, after a warm-up that decides the size.

    A network that is so slow that rounds would take longer than MOST_SECONDS gets fewer of them.
    """
    group = max(network.shape, inference.IMAGES_PER_TASK) * threads
    source = cycle(images)
    _embed(network, source, group, batch_size, threads)
    warm = _embed(network, source, group, batch_size, threads)
    size = max(1, round(SECONDS_PER_ROUND / warm)) * group
    speeds, references, wall, processor = [], [], 0.0, 0.0
    while len(speeds) < ROUNDS and (wall < MOST_SECONDS or not speeds):
        before = time.process_time()
        seconds = _embed(network, source, size, batch_size, threads)
        processor += time.process_time() - before
        wall += seconds
        speeds.append(size / seconds)
        references.append(reference.seconds_in_parallel(threads, _REFERENCE_RUNS))
    return Rounds(speeds, references, processor / (wall * threads))


def _embed(network: Network, source: cycle[EncodedImage], size: int, batch_size: int, threads: int) -> float:
    """Seconds in which the next `size` images are embedded."""
    start = time.perf_counter()
    for _ in inference.vectors(network, islice(source, size), batch_size, threads):
        pass
    return time.perf_counter() - start
