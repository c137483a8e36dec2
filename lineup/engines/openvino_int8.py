"""OpenVINO in int8: NNCF quantises weights and activations after training."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lineup.engines.engine import CannotConvert, Forward, Vectors
from lineup.engines.openvino import _restored_logging  # pyright: ignore[reportPrivateUsage]
from lineup.engines.tracing import tracing

PACKAGES = ("openvino", "nncf")
RUNTIME_PACKAGES = ("openvino",)
_FILE = "network.xml"  # its weights lie beside it, in network.bin

__all__ = ["PACKAGES", "RUNTIME_PACKAGES", "load", "quantise"]


def quantise(module: nn.Module, batches: Iterable[torch.Tensor], count: int, folder: Path) -> None:
    """By NNCF's preset for accuracy of activations, and its own method for networks with attention."""
    openvino = _openvino()
    try:
        import nncf

        nncf.set_log_level(logging.ERROR)
        [pixels] = islice(batches, 1)
        with tracing(module), _restored_logging(), contextlib.redirect_stdout(io.StringIO()):
            traced = torch.jit.trace(module, pixels, check_trace=False)
            model = openvino.convert_model(
                traced, example_input=pixels, input=[openvino.PartialShape(list(pixels.shape))]
            )
            quantised = nncf.quantize(
                model,
                nncf.Dataset(_Arrays(batches)),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=count,
                model_type=nncf.ModelType.TRANSFORMER if _has_attention(model) else None,
            )
    except Exception as error:  # three libraries raise errors of their own at an operation that they lack
        raise CannotConvert.because(error) from None
    _number_operations(quantised)
    openvino.save_model(quantised, folder / _FILE, compress_to_fp16=False)


class _Arrays:
    """Batches as NumPy arrays, which can be read again."""

    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        self._batches = batches

    def __iter__(self) -> Any:
        return (pixels.numpy() for pixels in self._batches)


def _has_attention(model: Any) -> bool:
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    return bool(kinds & {"Softmax", "ScaledDotProductAttention"})


def _number_operations(model: Any) -> None:
    """Names the network, and its operations by their order.

    OpenVINO's own names hold a number that rises for as long as the process runs: other bytes at each call.
    """
    model.set_friendly_name("network")
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")


def load(folder: Path, shape: int, threads: int) -> tuple[Forward, int]:
    """The network with a stream of one thread for each thread; what has no int8 is computed in float32."""
    openvino = _openvino()
    try:
        core = openvino.Core()
        model = _with_shape(core, folder / _FILE, shape)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # with it, processes side by side share one core
            },
        )
    except Exception as error:
        raise CannotConvert.because(error) from None
    requests = threading.local()

    def forward(pixels: torch.Tensor) -> Vectors:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return requests.own.infer({0: pixels.numpy()}, share_inputs=True, share_outputs=True)[0].copy()

    return forward, int(compiled.input(0).shape[0])


def _with_shape(core: Any, file: Path, shape: int) -> Any:
    """The network for so many images in each call, or unchanged where its operations fix the number."""
    model = core.read_model(file)
    own, *rest = model.input(0).shape
    if own == shape:
        return model
    try:
        model.reshape([shape, *rest])
        if [*model.output(0).shape][:1] == [shape]:
            return model
    except RuntimeError:  # a network whose trace holds the number of images
        pass
    return core.read_model(file)


def _openvino() -> Any:
    """The package, without its report to the vendor, as in openvino.py."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
