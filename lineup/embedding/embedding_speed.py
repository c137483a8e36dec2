"""How fast a row's network embeds prepared images in batches, in rounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from lineup import machine, paths
from lineup.embedding import inference, quantised_network
from lineup.embedding.inference import EncodedImage
from lineup.encoders import adapter, encoder_config, model_folder
from lineup.engines import conversion, quantisation
from lineup.engines.engine import Network
from lineup.settings.sections import Embed

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


def batch_embedder(
    model: str, queries_network: Network, images: Sequence[EncodedImage], settings: Embed
) -> BatchEmbedder:
    """Embeds prepared images as `embed` does, in batches of its shape.

    Args:
        queries_network: embeds one image at a time. It is used where `embed` would compute with the same.
    """
    engine, network = queries_network.engine, queries_network
    encoder = adapter.load(model_folder.resolve(paths.model(model)))
    if engine.precision == quantisation.INT8:
        network = quantised_network.load(engine, paths.quantised(model), encoder, None, machine.threads())
    elif engine.device.type != "cpu" or engine.library.cpu_shape(encoder.module) != network.shape:
        network = conversion.prepare(engine, encoder, (), settings.batch_size, machine.threads())
    return BatchEmbedder(network, images, settings.batch_size, machine.threads())


def network_name(model: Path) -> str:
    """What decides a network's speed besides engine, precision and machine; equal for a network's rows.

    Args:
        model: the folder of the row's model.
    """
    config = encoder_config.read_config(model_folder.resolve(model))
    pooling = f" {config.pooling}" if config.pooling else ""
    return f"{config.library} {config.name}{pooling}, {config.resize_px}/{config.image_size} px, {config.dim}"
