"""ONNX Runtime: on processors, in float32."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward, Vectors
from lineup.engines.tracing import cpu_shape, tracing

PACKAGES = ("onnxruntime", "onnx")
PRECISIONS = {"cpu": ("float32",)}

__all__ = ["PACKAGES", "PRECISIONS", "compile", "cpu_shape", "write_graph"]
OUTPUT = "vectors"


def compile(
    module: nn.Module, pixels: torch.Tensor, precision: str, device: torch.device, threads: int
) -> Forward:
    """The traced module as an ONNX graph of one shape, computed by the thread that calls."""
    # ONNX Runtime reports to its vendor unless this is set before it is imported, and nothing here calls
    # home.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        onnxruntime.disable_telemetry_events()  # on Windows the variable above has no effect
        with io.BytesIO() as graph:
            write_graph(module, {"pixels": pixels}, graph)
            session = onnxruntime.InferenceSession(
                graph.getvalue(), options, providers=["CPUExecutionProvider"]
            )
    except Exception as error:  # three libraries raise errors of their own at an operation that they lack
        raise CannotConvert.because(error) from None

    def forward(pixels: torch.Tensor) -> Vectors:
        return session.run([OUTPUT], {"pixels": pixels.numpy()})[0]  # type: ignore[return-value]

    return forward


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    graph: io.BytesIO | Path,
    free: Sequence[str] = (),
) -> None:
    """Writes a module as an ONNX graph whose output is OUTPUT.

    Args:
        inputs: by name, in the order of the module's arguments.
        graph: where to write. Only a file can hold more than 2 GB, with further files beside it.
        free: names of the inputs' dimensions that may have any size, from the first on; the rest is fixed.
    Raises:
        Exception: an operation that ONNX lacks.
    """
    axes = {name: dict(enumerate(free)) for name in inputs} | {OUTPUT: dict(enumerate(free[:1]))}
    with tracing(module):
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            graph if isinstance(graph, io.BytesIO) else str(graph),  # type: ignore[arg-type]
            opset_version=17,
            dynamo=False,
            input_names=[*inputs],
            output_names=[OUTPUT],
            dynamic_axes=axes if free else None,
        )
