"""How fast a network embeds, measured on a few photos; for an estimate, before any row ran."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from lineup import machine
from lineup.embedding import inference
from lineup.encoders import encoder_folder
from lineup.engines import conversion, selection
from lineup.engines.engine import CannotConvert, Network
from lineup.errors import UserError
from lineup.settings.sections import Embed

_MEASURED_IMAGES = 128
_MAX_SECONDS = 5.0


def images_per_second(folder: Path, photos: Sequence[bytes], embed: Embed) -> float:
    """The speed of embedding prepared images, decoding them included.

    Args:
        folder: of an encoder.
        photos: prepared images, encoded; at least one. They are used again and again.
    Raises:
        UserError: no engine can compute the encoder.
    """
    network = _network(folder, photos, embed)
    images = ((str(number), photo) for number, photo in enumerate(cycle(photos)))
    start, done = time.perf_counter(), 0
    for batch in inference.vectors(
        network, islice(images, _MEASURED_IMAGES), inference.IMAGES_PER_TASK, machine.threads()
    ):
        done += len(batch.ids)
        if time.perf_counter() - start > _MAX_SECONDS:
            break
    return done / (time.perf_counter() - start)


def _network(folder: Path, photos: Sequence[bytes], embed: Embed) -> Network:
    """The encoder, converted for the first engine that can compute it."""
    encoder = encoder_folder.load(folder)
    sample = islice(enumerate(photos), conversion.PARITY_IMAGES)
    pixels = [inference.decoded((str(number), photo), encoder.transform) for number, photo in sample]
    fault: CannotConvert | None = None
    for engine in selection.candidates(embed):
        try:
            return conversion.prepare(engine, encoder, pixels, embed.batch_size, machine.threads())
        except CannotConvert as error:
            fault = error
    raise UserError(f"{folder}: no engine computes it ({fault}); set embed.engine to auto or torch")
