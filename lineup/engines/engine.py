"""What an engine's file offers, and what it hands over.

An engine computes an encoder's vectors. Its file (`torch.py`, `openvino.py`, ...) is an `EngineLibrary`, and
`Engine.library` imports it by its name. `selection.py` chooses an engine, and `conversion.py` gives it an
encoder.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch import device as Device  # an engine's file takes the name `torch` in this package

from lineup.encoders.encoder import Transform

Vectors = npt.NDArray[np.float32]
# Pixels float32 [B, 3, H, W] -> [B, D]. It holds on to neither, and several threads may call it at once.
Forward = Callable[[Tensor], Vectors]


class EngineLibrary(Protocol):
    """What an engine's file offers.

    An engine computes with one thread per call on the CPU, so that neither the number of threads nor that of
    images changes a vector's last bit.

    Attributes:
        PACKAGES: what must be installed, and whose versions decide a vector. torch counts for every engine.
        PRECISIONS: those that it supports, by type of device.
    """

    @property
    def PACKAGES(self) -> Sequence[str]:
        """The packages that it needs."""
        ...

    @property
    def PRECISIONS(self) -> Mapping[str, Sequence[str]]:
        """The precisions that it computes in, by the kind of device."""
        ...

    def cpu_shape(self, module: nn.Module) -> int:
        """The number of images in each call on a CPU with which a network is fastest."""
        ...

    def compile(
        self, module: nn.Module, pixels: Tensor, precision: str, device: Device, threads: int
    ) -> Forward:
        """Converts a network, for one shape of input.

        Args:
            pixels: float32 [B, 3, H, W] of real images, in the shape of all later calls.
            threads: how many of them will call the result at once.
        Raises:
            CannotConvert: the network has an operation that the engine lacks.
        """
        ...


class CannotConvert(Exception):
    """Why an engine can't compute an encoder, such as "its vectors differ from torch's"."""

    @classmethod
    def because(cls, error: Exception) -> CannotConvert:
        """With a library's error in one line: the line that names an operation, else the first one."""
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        line = next((line for line in lines if "aten::" in line), lines[0] if lines else "")
        return cls(f"{type(error).__name__}: {line[:200]}" if line else type(error).__name__)


@dataclass(frozen=True)
class Engine:
    """A library that computes vectors, on a device, in a precision."""

    name: str
    precision: str
    device: Device

    @property
    def library(self) -> EngineLibrary:
        """The engine's file."""
        return cast(EngineLibrary, importlib.import_module(f"lineup.engines.{self.name}"))

    @property
    def described(self) -> str:
        """Name and version: "openvino 2026.4.1"."""
        return f"{self.name} {importlib.metadata.version(self.name)}"


@dataclass(frozen=True)
class Network:
    """An encoder ready to compute; shape: number of images in each call of `forward`, padded with zeros."""

    engine: Engine
    forward: Forward
    transform: Transform
    shape: int
