"""OpenVINO: on processors, in float32 or bfloat16."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward, Vectors
from lineup.engines.tracing import cpu_shape, tracing

PACKAGES = ("openvino",)
PRECISIONS = {"cpu": ("float32", "bfloat16")}
_HINTS = {"float32": "f32", "bfloat16": "bf16"}

__all__ = ["PACKAGES", "PRECISIONS", "compile", "cpu_shape"]


@contextmanager
def _restored_logging() -> Iterator[None]:
    """Restores the root logger, which the converter changes, and leaves changed where it fails."""
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def compile(
    module: nn.Module, pixels: torch.Tensor, precision: str, device: torch.device, threads: int
) -> Forward:
    """The traced module, compiled for one shape, with a stream of one thread for each thread.

    Nothing is stored: tracing and converting take about a second (MobileNetV2, ResNet50), which is less than
    importing torch takes.
    """
    # The converter would report to the vendor, and nothing here calls home. Without this package OpenVINO
    # uses a stand-in of its own, which does nothing.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    core = openvino.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise CannotConvert("this processor doesn't compute in bfloat16")
    try:
        with tracing(module), _restored_logging():
            traced = torch.jit.trace(module, pixels, check_trace=False)
            model = openvino.convert_model(
                traced, example_input=pixels, input=[openvino.PartialShape(list(pixels.shape))]
            )
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # with it, processes side by side share one core
            },
        )
    except Exception as error:  # three libraries raise errors of their own at an operation that they lack
        raise CannotConvert.because(error) from None
    requests = threading.local()

    def forward(pixels: torch.Tensor) -> Vectors:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return requests.own.infer({0: pixels.numpy()}, share_inputs=True, share_outputs=True)[0].copy()

    return forward
