"""Which engine computes: the one that params.yaml names, or the fastest that is installed."""

from __future__ import annotations

import importlib.metadata

from torch import cuda
from torch import device as Device  # an engine's file takes the name `torch` in this package

from lineup import paths
from lineup.engines.engine import Engine
from lineup.errors import UserError
from lineup.settings.sections import Embed

# The order in which `auto` prefers engines, by images/s of MobileNetV2, ResNet50 and CLIP ViT-B/32 at 224 px
# in float32, on two cores with AVX-512 (medians of three): openvino 230, 23.6, 19.9; onnxruntime 224, 23.1,
# 18.8; torch 98, 16.6, 17.5. The order is fixed rather than measured on each machine, because vectors must
# not depend on a machine's load.
AUTO = ("openvino", "onnxruntime", "torch")


def candidates(embed: Embed) -> list[Engine]:
    """The engines that params.yaml allows, in order: the first that can compute an encoder does so.

    `auto` stands for all that are installed. The last of those is torch, which computes every encoder.

    Raises:
        UserError: the engine that params.yaml names isn't installed, or doesn't support the precision or
        device.
    """
    device = _device(embed)
    if embed.engine == "auto":
        engines = [Engine(name, embed.precision, device) for name in AUTO]
        able = [engine for engine in engines if _supports(engine) and not _missing_package(engine)]
        if able:
            return able
    engine = Engine("torch" if embed.engine == "auto" else embed.engine, embed.precision, device)
    _check(engine)
    return [engine]


def _supports(engine: Engine) -> bool:
    return engine.precision in engine.library.PRECISIONS.get(engine.device.type, ())


def _device(embed: Embed) -> Device:
    """The device that params.yaml asks for; `auto` is the CPU where an engine is named that knows no other.

    Raises UserError if a GPU is asked for and there is none.
    """
    has_gpu = cuda.is_available()
    if embed.device == "cuda" and not has_gpu:
        raise UserError(
            f"{paths.PARAMS}: embed.device is cuda, but torch finds no CUDA GPU here; set it to auto or cpu"
        )
    wants_gpu = embed.device == "cuda" or (embed.device == "auto" and embed.engine in ("auto", "torch"))
    return Device("cuda" if has_gpu and wants_gpu else "cpu")


def _check(engine: Engine) -> None:
    """Raises UserError unless the engine supports its device and precision, and is installed."""
    setting, precisions = f"{paths.PARAMS}: embed.engine: {engine.name}", engine.library.PRECISIONS
    if engine.device.type not in precisions:
        raise UserError(f"{setting} computes on processors only; set device: cpu, or engine: auto")
    if engine.precision not in precisions[engine.device.type]:
        where = {"cpu": "on a processor", "cuda": "on a GPU"}[engine.device.type]
        raise UserError(
            f"{setting} computes {where} in {' or '.join(precisions[engine.device.type])}, "
            f"not in {engine.precision}; {_precision_hint(engine)}"
        )
    if package := _missing_package(engine):
        raise UserError(
            f"{setting} is not installed ({package} is missing); "
            f"run `pip install 'lineup[{engine.name}]'`, or set engine: auto"
        )


def _precision_hint(engine: Engine) -> str:
    able = [name for name in AUTO if _supports(Engine(name, engine.precision, engine.device))]
    return (
        f"set precision: float32, or engine: {' or '.join(able)}"
        if able
        else "set precision: float32 or bfloat16"
    )


def _missing_package(engine: Engine) -> str:
    """A package that the engine needs and that isn't installed; empty if there is none."""
    for package in engine.library.PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return package
    return ""
