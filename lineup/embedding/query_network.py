"""A row's network for queries, which come one at a time: by the engine that embedded the gallery."""

from __future__ import annotations

import logging

from torch import zeros

from lineup import paths
from lineup.embedding import inference
from lineup.encoders import adapter, model_folder
from lineup.encoders.encoder import Encoder
from lineup.engines import selection
from lineup.engines.engine import CannotConvert, Engine, Network
from lineup.engines.lookup_transform import fused
from lineup.errors import UserError
from lineup.settings.params import Embed
from lineup.storage import files

log = logging.getLogger(__name__)


def embedding_engine(model: str, embed: Embed) -> Engine | None:
    """The engine by which the row's gallery was embedded; None if this machine lacks it.

    `embed` compared its vectors with torch's.
    """
    try:
        costs = files.read_json(paths.costs("embed", model))
        engines = selection.candidates(embed)
    except UserError:  # a clone that pulled no costs, or a machine without the engine of params.yaml
        return None
    name, _, _ = str(costs.get("engine", "")).partition(" ")
    return next((engine for engine in engines if engine.name == name), None)


def load(model: str, embed: Embed, threads: int) -> Network:
    """The network for one image at a time; by torch where the gallery's engine is not installed.

    The pipeline's shape of several images gives the same vectors up to rounding, but takes longer.

    Args:
        threads: how many of them will call it at once.
    """
    folder = model_folder.resolve(paths.model(model))
    torch = Engine("torch", "float32", inference.choose_device(embed.device))
    engine = embedding_engine(model, embed) or torch
    try:
        return prepare(engine, adapter.load(folder), threads)
    except CannotConvert as reason:
        log.info("%s can't compute %s (%s); torch does", engine.name, paths.model(model), reason)
        return prepare(torch, adapter.load(folder), threads)


def prepare(engine: Engine, encoder: Encoder, threads: int) -> Network:
    """Converts an encoder for one image in each call. Raises CannotConvert."""
    side = encoder.config.image_size
    forward = engine.library.compile(
        encoder.module.eval(), zeros(1, 3, side, side), engine.precision, engine.device, threads
    )
    return Network(engine, forward, fused(encoder.transform), 1)
