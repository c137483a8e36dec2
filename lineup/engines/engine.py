"""Engines: what computes an encoder's vectors, one library per file, found by its name.

An engine's file offers:

    PACKAGES      packages that must be installed, and whose versions decide a vector (torch's own counts for
    every engine) PRECISIONS    by type of device
    cpu_shape(module) -> int    images in each call on a processor: how many it computes fastest
    compile(module, pixels, precision, device, threads) -> Forward    raises CannotConvert

pixels: float32 [B, 3, H, W], real images, in the one shape that the Forward is called with afterwards. An
engine computes with one thread per call and device "cpu", so that neither the number of threads nor of images
changes a vector's last bit.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt
from torch import (
    Tensor,
    cuda,
    inference_mode,
    nn,
    zeros,
)  # an engine's file takes the name `torch` in this package
from torch import device as Device

from lineup import paths
from lineup.encoders.encoder import Encoder, Transform
from lineup.engines.lookup_transform import fused
from lineup.errors import UserError
from lineup.settings.params import Embed

Vectors = npt.NDArray[np.float32]
Forward = Callable[
    [Tensor], Vectors
]  # float32 [B, 3, H, W], not kept -> [B, D]; several threads may call it at once

# The order of `auto`: by images/s of MobileNetV2, ResNet50 and CLIP ViT-B/32 at 224 px on two cores with
# AVX-512, float32 (medians of three): openvino 230, 23.6, 19.9; onnxruntime 224, 23.1, 18.8; torch 98, 16.6,
# 17.5. Never measured when it's
# used: vectors must not depend on what else a machine did.
AUTO = ("openvino", "onnxruntime", "torch")
# Cosine with torch's float32 vectors, of each image that is tried. Float32 differs in the seventh digit;
# bfloat16, which has eight bits, gave 0.9988 or more (EfficientNet-Lite0 on photos of groceries).
PARITY = {"float32": 0.99999, "bfloat16": 0.99, "float16": 0.99}
PARITY_IMAGES = 4


class CannotConvert(Exception):
    """Why an engine can't compute an encoder, as "it gives other vectors"."""


@dataclass(frozen=True)
class Engine:
    """A library that computes vectors, on a device, in a precision."""

    name: str
    precision: str
    device: Device

    @property
    def library(self) -> ModuleType:
        return importlib.import_module(f"lineup.engines.{self.name}")

    @property
    def described(self) -> str:
        """As "openvino 2026.4.1"."""
        return f"{self.name} {importlib.metadata.version(self.name)}"


@dataclass(frozen=True)
class Network:
    """An encoder ready to compute. shape: images in each call of `forward`; missing ones are zeros."""

    engine: Engine
    forward: Forward
    transform: Transform
    shape: int


def candidates(embed: Embed) -> list[Engine]:
    """The engines that params.yaml asks for, the first of which that can compute an encoder is to do so.

    With `auto` those that are installed, ending in torch, which computes every encoder. UserError if the one
    that is named isn't installed, or doesn't go with the precision or the device.
    """
    device = _device(embed)
    if embed.engine == "auto":
        named = [Engine(name, embed.precision, device) for name in AUTO]
        able = [
            engine
            for engine in named
            if embed.precision in engine.library.PRECISIONS.get(device.type, ()) and not _missing(engine)
        ]
        if able:
            return able
    engine = Engine("torch" if embed.engine == "auto" else embed.engine, embed.precision, device)
    _check(engine)
    return [engine]


def prepare(
    engine: Engine, encoder: Encoder, images: Sequence[Tensor] = (), batch_size: int = 1, threads: int = 1
) -> Network:
    """Converts an encoder for an engine. The encoder's module may be used up: what the engine needs is in the
    Network.

    images: float32 [3, H, W], on whose vectors the engine must agree with torch's in float32 (`PARITY`; none:
        nothing is compared);
    batch_size: on a GPU, the shape; threads: how many will call `forward` at once. Raises CannotConvert with
        the reason.
    """
    module, library = encoder.module.eval(), engine.library
    shape = library.cpu_shape(module) if engine.device.type == "cpu" else batch_size
    tried = [padded([image], shape) for image in images[:PARITY_IMAGES]]
    side = encoder.facts.get("image_size", 64)
    exact = engine.name == "torch" and engine.precision == "float32"
    wanted = (
        [] if exact else [_plain(module, pixels[:1]) for pixels in tried]
    )  # before the engine may change the module
    forward = library.compile(
        module, tried[0] if tried else zeros(shape, 3, side, side), engine.precision, engine.device, threads
    )
    for pixels, reference in zip(tried, wanted, strict=False):
        _compare(forward(pixels)[0], reference[0], PARITY[engine.precision])
    return Network(engine, forward, fused(encoder.transform), shape)


def padded(images: Sequence[Tensor], shape: int, pinned: bool = False) -> Tensor:
    """[3, H, W] each, at most `shape` of them -> [shape, 3, H, W], zeros behind the last; an image that fills
    it is not copied.

    pinned: in memory that a GPU reads by itself.
    """
    if shape == 1 and not pinned:
        return images[0][None]
    pixels = zeros(shape, *images[0].shape, pin_memory=pinned)
    for row, image in enumerate(images):
        pixels[row] = image
    return pixels


def _device(embed: Embed) -> Device:
    """UserError if a GPU is asked for that isn't there.

    An engine for processors, by its name, asks for one.
    """
    here = cuda.is_available()
    if embed.device == "cuda" and not here:
        raise UserError(
            f"{paths.PARAMS}: embed.device is cuda, but torch finds no CUDA GPU here; say auto or cpu"
        )
    wants_gpu = embed.device == "cuda" or (embed.device == "auto" and embed.engine in ("auto", "torch"))
    return Device("cuda" if here and wants_gpu else "cpu")


def _check(engine: Engine) -> None:
    place, able = f"{paths.PARAMS}: embed.engine: {engine.name}", engine.library.PRECISIONS
    if engine.device.type not in able:
        raise UserError(f"{place} computes on processors only; say device: cpu, or engine: auto")
    if engine.precision not in able[engine.device.type]:
        on = {"cpu": "on a processor", "cuda": "on a GPU"}[engine.device.type]
        raise UserError(
            f"{place} computes {on} in {' or '.join(able[engine.device.type])}, not in {engine.precision}; {_way_out(engine)}"
        )
    if missing := _missing(engine):
        raise UserError(
            f"{place} is not installed ({missing} is missing); run `pip install 'lineup[{engine.name}]'`, or say engine: auto"
        )


def _way_out(engine: Engine) -> str:
    able = [
        name
        for name in AUTO
        if engine.precision in Engine(name, "", engine.device).library.PRECISIONS.get(engine.device.type, ())
    ]
    return (
        f"say precision: float32, or engine: {' or '.join(able)}"
        if able
        else "say precision: float32 or bfloat16"
    )


def _missing(engine: Engine) -> str:
    """A package that the engine needs and that isn't installed; empty if there is none."""
    for package in engine.library.PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return package
    return ""


def _plain(module: nn.Module, pixels: Tensor) -> Vectors:
    with inference_mode():
        return module(pixels).float().cpu().numpy()


def _compare(vector: Vectors, wanted: Vectors, least: float) -> None:
    """Raises CannotConvert unless a vector has the direction and length of torch's, nearly. Both: [D]."""
    length, reference = (float(np.linalg.norm(v.astype(np.float64))) for v in (vector, wanted))
    if not np.isfinite(reference) or reference == 0:
        return  # whoever computes it, embed names this image
    cosine = (
        float(vector.astype(np.float64) @ wanted.astype(np.float64)) / (length * reference) if length else 0.0
    )
    if not cosine >= least or not abs(length / reference - 1) <= (1 - least) ** 0.5:
        raise CannotConvert(
            f"its vectors differ from torch's, cosine {cosine:.6f} instead of {least} or more"
        )


def reason(error: Exception) -> str:
    """A library's complaint in one line: the one that names an operation, else the first."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    told = next((line for line in lines if "aten::" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {told[:200]}" if told else type(error).__name__
