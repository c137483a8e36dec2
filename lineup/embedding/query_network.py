"""A row's network for queries, which come one at a time: by the engine that embedded the gallery."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import device as Device
from torch import zeros

from lineup import paths
from lineup.embedding import inference, quantised_network
from lineup.encoders import adapter, encoder_folder, model_folder
from lineup.encoders.encoder import Encoder
from lineup.engines import quantisation, selection
from lineup.engines.engine import CannotConvert, Engine, Network
from lineup.engines.lookup_transform import fused
from lineup.errors import UserError
from lineup.settings.sections import Embed
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
    if embed.precision == quantisation.INT8:
        return _in_int8(model, folder, threads)
    torch = _torch(model, embed)
    engine = embedding_engine(model, embed) or torch
    try:
        return prepare(engine, adapter.load(folder), threads)
    except CannotConvert as reason:
        log.info("%s can't compute %s (%s); torch does", engine.name, paths.model(model), reason)
        return prepare(torch, adapter.load(folder), threads)


def _torch(model: str, embed: Embed) -> Engine:
    """torch in the row's precision, or in float32 where this machine's device does not know it."""
    device = inference.choose_device(embed.device)
    engine = Engine("torch", embed.precision, device)
    if embed.precision in engine.library.PRECISIONS[device.type]:
        return engine
    log.warning(
        "%s was embedded in %s, which torch does not compute on this machine; its queries are embedded in "
        "float32",
        model,
        embed.precision,
    )
    return Engine("torch", "float32", device)


def _in_int8(model: str, folder: Path, threads: int) -> Network:
    """The network in int8 that embedded the gallery: no other gives vectors that compare as well with its.

    Raises:
        UserError: it is not here, or this machine lacks what computes it.
    """
    quantised = paths.quantised(model)
    if not quantised.is_dir():
        raise UserError(
            f"{quantised}: does not exist, and queries of {model} need its network in "
            f"{quantisation.INT8}; run `dvc pull {quantised}`, or `dvc repro`"
        )
    name = quantised_network.read_record(quantised, folder)["engine"]
    if missing := quantisation.missing_package(quantisation.library(name).RUNTIME_PACKAGES):
        raise UserError(
            f"{quantised}: queries of {model} need {missing}, which is not installed; "
            f"run `pip install 'lineup[{name}]'`"
        )
    engine = Engine(name, quantisation.INT8, Device("cpu"))
    try:
        return quantised_network.load(engine, quantised, encoder_folder.load(folder), 1, threads)
    except CannotConvert as reason:
        raise UserError(f"{quantised}: {name} can't compute it here ({reason})") from None


def prepare(engine: Engine, encoder: Encoder, threads: int) -> Network:
    """Converts an encoder for one image in each call. Raises CannotConvert."""
    side = encoder.config.image_size
    forward = engine.library.compile(
        encoder.module.eval(), zeros(1, 3, side, side), engine.precision, engine.device, threads
    )
    return Network(engine, forward, fused(encoder.transform), 1)
