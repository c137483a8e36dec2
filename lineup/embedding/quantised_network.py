"""A row's network in int8, as `quantise` wrote it: what decided it, and how it is loaded.

`data/quantised/<row>/precision.json` names the precision in which `embed` computes the row. Where that is
int8, it also names all that decided the network, and the network lies beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from lineup import paths
from lineup.embedding import inference
from lineup.encoders import encoder_folder, libraries, model_folder
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import JsonObject, read_config
from lineup.engines import quantisation
from lineup.engines.engine import CannotConvert, Engine, Forward, Network
from lineup.engines.lookup_transform import fused
from lineup.engines.quantisation import QuantisingLibrary
from lineup.errors import UserError
from lineup.fingerprint import file_digest
from lineup.photos import calibration_photos
from lineup.photos.calibration_photos import CalibrationPhotos
from lineup.storage import files

log = logging.getLogger(__name__)

RECORD_FILE = "precision.json"
PROBE_FILE = "probe.safetensors"
_PROBED_COMPILATIONS = 4
# A network is compiled so often before one is taken whose probe differs in its last digits, and at most so
# often in all.
_COMPILATIONS_UNTIL_EQUAL, _MOST_COMPILATIONS = 3, 8
_SAME_COSINE, _LEAST_COSINE = 0.9999, 0.99


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
    pixel = next(iter(pixels))[:1]
    with torch.inference_mode():
        reference = module(pixel).float().numpy()
    try:
        library.quantise(module, pixels, len(pixels), folder)
        probe = _best_probe(library, folder, pixel.numpy(), reference, (1, pixels.shape))
    except CannotConvert as reason:
        raise UserError(
            f"{paths.PARAMS}: models.{row}: {engine.name} can't compute it in {quantisation.INT8} "
            f"({reason}); set precision: bfloat16 or float32"
        ) from None
    probe.write(folder / PROBE_FILE)
    log.info(
        "%s: calibrated on %d %s photos; cosine of the first one to float32 %.4f",
        row,
        len(photos.ids),
        "training" if photos.part == "train" else "gallery",
        _cosine(probe.vectors[pixels.shape], reference),
    )
    record = {
        "precision": quantisation.INT8,
        "engine": engine.name,
        "weights_sha256": read_config(source).weights_sha256,
        "versions": libraries.versions(*library.PACKAGES),
        "calibration": {"part": photos.part, "photos": len(photos.ids), "sha256": photos.sha256},
        "files": {file.name: file_digest(file) for file in sorted(folder.iterdir())},
    }
    files.write_json(folder / RECORD_FILE, record)


@dataclass(frozen=True)
class Probe:
    """A photo by which a compiled network is recognised.

    OpenVINO 2026.4.1 compiles one file to several networks: about one compilation in fifteen of SqueezeNet
    gives vectors whose cosine to the usual ones is 0.96 to 0.99. So a compilation counts only if it gives the
    vector that it gave when the network was quantised.

    Attributes:
        pixels: float32 [1, 3, H, W].
        vectors: float32 [1, D], by the number of images in each call.
    """

    pixels: np.ndarray
    vectors: dict[int, np.ndarray]

    def write(self, file: Path) -> None:
        """As safetensors, which gives the same bytes each time."""
        save_file({"pixels": self.pixels, **{str(n): vector for n, vector in self.vectors.items()}}, file)

    @classmethod
    def read(cls, file: Path) -> Probe:
        """What `write` wrote."""
        tensors = load_file(file)
        pixels = tensors.pop("pixels")
        return cls(pixels, {int(shape): vector for shape, vector in tensors.items()})


def _best_probe(
    library: QuantisingLibrary,
    folder: Path,
    pixels: np.ndarray,
    reference: np.ndarray,
    shapes: tuple[int, ...],
) -> Probe:
    """The vectors nearest to those of float32 that some compilations give, for each shape."""
    vectors: dict[int, np.ndarray] = {}
    for shape in shapes:
        for _ in range(_PROBED_COMPILATIONS):
            forward, own_shape = library.load(folder, shape, 1)
            vector = _probed(forward, own_shape, pixels)
            if own_shape not in vectors or _cosine(vector, reference) > _cosine(
                vectors[own_shape], reference
            ):
                vectors[own_shape] = vector
    return Probe(pixels, vectors)


def _probed(forward: Forward, shape: int, pixels: np.ndarray) -> np.ndarray:
    return forward(torch.from_numpy(pixels).repeat(shape, 1, 1, 1))[:1].copy()


def _cosine(vector: np.ndarray, reference: np.ndarray) -> float:
    length = float(np.linalg.norm(vector) * np.linalg.norm(reference))
    return float((vector * reference).sum()) / length if length else 0.0


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
        if not (folder / name).exists() or file_digest(folder / name) != digest:
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
    library, probe = quantisation.library(engine.name), Probe.read(folder / PROBE_FILE)
    nearest, nearest_cosine = None, 0.0
    for attempt in range(1, _MOST_COMPILATIONS + 1):
        forward, own_shape = library.load(folder, wanted, threads)
        network = Network(engine, forward, fused(encoder.transform), own_shape)
        vector = _probed(forward, own_shape, probe.pixels)
        expected = probe.vectors.get(own_shape, next(iter(probe.vectors.values())))
        if np.array_equal(vector, expected):
            return network
        cosine = _cosine(vector, expected)
        if cosine > nearest_cosine:
            nearest, nearest_cosine = network, cosine
        if nearest and attempt >= _COMPILATIONS_UNTIL_EQUAL and nearest_cosine >= _SAME_COSINE:
            return nearest  # another kind of processor rounds otherwise
    if nearest is None or nearest_cosine < _LEAST_COSINE:
        raise CannotConvert(
            f"its vectors differ from those of the calibration, cosine {nearest_cosine:.4f} "
            f"instead of {_LEAST_COSINE} or more"
        )
    return nearest
