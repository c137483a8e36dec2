"""Networks in int8: which engines know it, what their files offer, and which engines a row may use.

`openvino_int8.py` and `onnxruntime_int8.py` are a `QuantisingLibrary` each. A network is quantised once, and
then read from its folder wherever it computes. The engines of other precisions convert a network anew
whenever they start (`engine.py`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor, nn
from torch import device as Device  # an engine's file takes the name `torch` in this package

from lineup import paths
from lineup.engines import selection
from lineup.engines.engine import Engine, Forward
from lineup.errors import UserError
from lineup.settings.sections import Embed

INT8 = "int8"
# The engines that know int8, in the order in which `auto` prefers them.
ENGINES = ("openvino", "onnxruntime")


class QuantisingLibrary(Protocol):
    """What the file of an engine that knows int8 offers.

    Attributes:
        PACKAGES: what quantising needs; their versions decide the network.
        RUNTIME_PACKAGES: those of them that computing needs, too.
    """

    @property
    def PACKAGES(self) -> Sequence[str]:
        """The packages that quantising needs."""
        ...

    @property
    def RUNTIME_PACKAGES(self) -> Sequence[str]:
        """The packages that computing needs."""
        ...

    def quantise(self, module: nn.Module, batches: Iterable[Tensor], count: int, folder: Path) -> None:
        """Writes the network with weights and activations of 8 bits: the same bytes whenever it is called.

        Args:
            batches: float32 [B, 3, H, W] each, all of one shape; they may be read several times.
            count: how many batches there are.
            folder: where to write; it is empty.
        Raises:
            CannotConvert: the network has an operation that the engine lacks.
        """
        ...

    def load(self, folder: Path, shape: int, threads: int) -> tuple[Forward, int]:
        """The network that `quantise` wrote, and the number of images in each of its calls.

        Args:
            shape: the wanted number of images; a network that takes no other number keeps its own.
            threads: how many of them will call the result at once.
        Raises:
            CannotConvert: the engine can't read it.
        """
        ...


def library(engine: str) -> QuantisingLibrary:
    """The file of an engine that knows int8."""
    return cast(QuantisingLibrary, importlib.import_module(f"lineup.engines.{engine}_int8"))


def candidates(row: str, embed: Embed) -> list[Engine]:
    """The engines that may compute a row of models: the first that can does so.

    Args:
        embed: with the row's own precision (`Params.embed_of`).
    Raises:
        UserError: no engine that params.yaml allows computes in this precision here.
    """
    if embed.precision == INT8:
        return [_quantising(embed, f"{paths.PARAMS}: models.{row}: precision: {INT8}")]
    try:
        return selection.candidates(embed)
    except UserError as error:
        if embed.precision == "float32":
            raise
        fault = str(error).removeprefix(f"{paths.PARAMS}: ")
        raise UserError(f"{paths.PARAMS}: models.{row}: {fault}") from None


def _quantising(embed: Embed, setting: str) -> Engine:
    """The engine for int8: the one that params.yaml names, or the first that is installed."""
    engine = embed.engine
    if embed.device == "cuda":
        raise UserError(
            f"{setting} computes on processors only, and embed.device is cuda; "
            "set embed.device: cpu, or precision: bfloat16"
        )
    if engine not in ("auto", *ENGINES):
        raise UserError(
            f"{setting} is unknown to embed.engine: {engine}; set engine: {', '.join(ENGINES)} or auto, "
            "or precision: float32"
        )
    wanted = ENGINES if engine == "auto" else (engine,)
    for name in wanted:
        if not missing_package(library(name).PACKAGES):
            return Engine(name, INT8, Device("cpu"))
    missing = missing_package(library(wanted[0]).PACKAGES)
    raise UserError(
        f"{setting} needs {missing}, which is not installed; run `pip install 'lineup[{INT8}]'`, "
        "or set precision: float32"
    )


def missing_package(packages: Iterable[str]) -> str:
    """The first package that isn't installed; empty if all are."""
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return package
    return ""
