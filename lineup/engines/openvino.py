"""OpenVINO: on processors, in float32 or bfloat16."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward, Vectors, reason
from lineup.engines.tracing import cpu_shape, tracing

PACKAGES = ("openvino",)
PRECISIONS = {"cpu": ("float32", "bfloat16")}
_HINTS = {"float32": "f32", "bfloat16": "bf16"}

__all__ = ["PACKAGES", "PRECISIONS", "compile", "cpu_shape"]


@contextmanager
def _own_logging() -> Iterator[None]:
    """The converter sets the root logger to its liking, and where it fails leaves it so."""
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
    """The traced module, compiled for one shape; as many streams of one thread each as there are threads.

    Nothing is kept on disk: tracing and converting take about a second (MobileNetV2, ResNet50), less than
        importing torch does.
    """
    # Converting would report to the vendor's statistics unless the user had refused beforehand; nothing here
    # calls home. OpenVINO brings a stand-in for this package, which does nothing, for where it isn't
    # installed.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    core = openvino.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise CannotConvert("this processor doesn't compute in bfloat16")
    try:
        with tracing(module), _own_logging():
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
                "ENABLE_CPU_PINNING": False,  # processes side by side would share one core
            },
        )
    except Exception as error:  # whatever an operation that it doesn't know raises, in three libraries
        raise CannotConvert(reason(error)) from None
    requests = threading.local()

    def forward(pixels: torch.Tensor) -> Vectors:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return requests.own.infer({0: pixels.numpy()}, share_inputs=True, share_outputs=True)[0].copy()

    return forward
