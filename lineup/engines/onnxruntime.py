"""ONNX Runtime: on processors, in float32."""

from __future__ import annotations

import io
import os

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward, Vectors
from lineup.engines.tracing import cpu_shape, tracing

PACKAGES = ("onnxruntime", "onnx")
PRECISIONS = {"cpu": ("float32",)}

__all__ = ["PACKAGES", "PRECISIONS", "compile", "cpu_shape"]


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
        with tracing(module), io.BytesIO() as graph:
            names = {"input_names": ["pixels"], "output_names": ["vectors"]}
            torch.onnx.export(module, (pixels,), graph, opset_version=17, dynamo=False, **names)  # type: ignore[arg-type]
            session = onnxruntime.InferenceSession(
                graph.getvalue(), options, providers=["CPUExecutionProvider"]
            )
    except Exception as error:  # three libraries raise errors of their own at an operation that they lack
        raise CannotConvert.because(error) from None

    def forward(pixels: torch.Tensor) -> Vectors:
        return session.run(["vectors"], {"pixels": pixels.numpy()})[0]  # type: ignore[return-value]

    return forward
