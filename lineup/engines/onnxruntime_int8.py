"""ONNX Runtime in int8: its static quantisation, with a scale for each channel of the weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward
from lineup.engines.onnxruntime import OUTPUT, write_graph

PACKAGES = ("onnxruntime", "onnx")
RUNTIME_PACKAGES = ("onnxruntime",)
_FILE = "network.onnx"
_INPUT = "pixels"

__all__ = ["PACKAGES", "RUNTIME_PACKAGES", "load", "quantise"]


def quantise(module: nn.Module, batches: Iterable[torch.Tensor], count: int, folder: Path) -> None:
    """The range of each activation is that of the calibration photos."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in onnxruntime.py
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        [pixels] = islice(batches, 1)
        with tempfile.TemporaryDirectory(prefix="lineup-") as scratch:
            graph, prepared = Path(scratch) / "graph.onnx", Path(scratch) / "prepared.onnx"
            write_graph(module, {_INPUT: pixels}, graph, free=("batch",))
            quant_pre_process(graph, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                folder / _FILE,
                _reader(quantization.CalibrationDataReader, batches),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
            )
    except Exception as error:  # three libraries raise errors of their own at an operation that they lack
        raise CannotConvert.because(error) from None


def _reader(base: Any, batches: Iterable[torch.Tensor]) -> Any:
    """The calibration photos as ONNX Runtime asks for them: one batch after another, None at the end."""

    class Reader(base):
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            pixels = next(self._batches, None)
            return None if pixels is None else {_INPUT: pixels.numpy()}

    return Reader()


def load(folder: Path, shape: int, threads: int) -> tuple[Forward, int]:
    """The graph, which takes any number of images, computed by the thread that calls."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in onnxruntime.py
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        onnxruntime.disable_telemetry_events()
        session = onnxruntime.InferenceSession(
            str(folder / _FILE), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise CannotConvert.because(error) from None
    return lambda pixels: session.run([OUTPUT], {_INPUT: pixels.numpy()})[0], shape  # type: ignore[return-value]
