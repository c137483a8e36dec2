"""A row's network in int8, as `quantise` wrote it: what decided it, and how it is loaded.

`data/quantised/<row>/precision.json` names the precision in which `embed` computes the row. Where that is
int8, it also names all that decided the network, and the network lies beside it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from lineup import paths
from lineup.embedding import inference
from lineup.encoders import encoder_folder, libraries, model_folder
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import JsonObject, read_config
from lineup.engines import quantisation
from lineup.engines.engine import CannotConvert, Engine, Network
from lineup.engines.lookup_transform import fused
from lineup.errors import UserError
from lineup.photos import calibration_photos
from lineup.photos.calibration_photos import CalibrationPhotos
from lineup.storage import files

log = logging.getLogger(__name__)

RECORD_FILE = "precision.json"


@dataclass(frozen=True)
class CalibrationPixels:
    """What the network sees of the calibration photos, decoded again whenever it is read.

    Iterating yields float32 [shape, 3, H, W]; the last batch is filled up with the first photos.
    """

    photos: CalibrationPhotos
    encoder: Encoder
    shape: int

    def __len__(self) -> int:
        return -(-len(self.photos.ids) // self.shape)

    def __iter__(self) -> Iterator[torch.Tensor]:
        images = (inference.decoded(image, self.encoder.transform) for image in self._repeated())
        while batch := [*islice(images, self.shape)]:
            yield torch.stack(batch)

    def _repeated(self) -> Iterator[tuple[str, bytes]]:
        count = len(self) * self.shape
        yield from islice(self.photos.read(), count)
        yield from islice(cycle(self.photos.read()), count - len(self.photos.ids))


def quantise(row: str, engine: Engine, seed: int, folder: Path) -> None:
    """Writes the row's network in int8 to a folder, and the record of what decided it.

    Raises:
        UserError: the engine can't quantise the network, or there is no photo to calibrate it on.
    """
    source = model_folder.resolve(paths.model(row))
    encoder = encoder_folder.load(source)
    module, library = encoder.module.eval(), quantisation.library(engine.name)
    photos = calibration_photos.choose(seed)
    pixels = CalibrationPixels(photos, encoder, engine.library.cpu_shape(module))
    compared = next(iter(pixels))
    with torch.inference_mode():
        reference = module(compared).float().numpy()
    try:
        library.quantise(module, pixels, len(pixels), folder)
        forward, _ = library.load(folder, pixels.shape, 1)
    except CannotConvert as reason:
        raise UserError(
            f"{paths.PARAMS}: models.{row}: {engine.name} can't compute it in {quantisation.INT8} "
            f"({reason}); set precision: bfloat16 or float32"
        ) from None
    vectors = forward(compared)
    log.info(
        "%s: calibrated on %d %s photos; cosine to float32 %.4f",
        row,
        len(photos.ids),
        "training" if photos.part == "train" else "gallery",
        _mean_cosine(vectors, reference),
    )
    record = {
        "precision": quantisation.INT8,
        "engine": engine.name,
        "weights_sha256": read_config(source).weights_sha256,
        "versions": libraries.versions(*library.PACKAGES),
        "calibration": {"part": photos.part, "photos": len(photos.ids), "sha256": photos.sha256},
        "files": {file.name: _digest(file) for file in sorted(folder.iterdir())},
    }
    files.write_json(folder / RECORD_FILE, record)


def _mean_cosine(vectors: np.ndarray, reference: np.ndarray) -> float:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((vectors * reference).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())


def read_record(folder: Path, model: Path) -> JsonObject:
    """What decided the network in a folder that `quantise` wrote.

    Args:
        model: the folder of the encoder that it was made of.
    Raises:
        UserError: the folder does not exist, is damaged, or was made of other weights.
    """
    record = files.read_json(folder / RECORD_FILE)
    if record.get("precision") != quantisation.INT8:
        raise UserError(f"{folder}: holds no network in {quantisation.INT8}; run `dvc repro` to go on")
    if record.get("weights_sha256") != read_config(model).weights_sha256:
        raise UserError(f"{folder}: was made of other weights than {model}; run `dvc repro` to go on")
    for name, digest in record["files"].items():
        if not (folder / name).exists() or _digest(folder / name) != digest:
            raise UserError(f"{folder / name}: is damaged; {files.REPAIR}")
    return record


def load(engine: Engine, folder: Path, encoder: Encoder, shape: int | None, threads: int) -> Network:
    """The network that `quantise` wrote to a folder.

    Args:
        encoder: of the row.
        shape: images in each call; None for the number with which the network is fastest.
        threads: how many of them will call it at once.
    Raises:
        CannotConvert: the engine can't read it.
    """
    wanted = shape or engine.library.cpu_shape(encoder.module)
    forward, own_shape = quantisation.library(engine.name).load(folder, wanted, threads)
    return Network(engine, forward, fused(encoder.transform), own_shape)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
