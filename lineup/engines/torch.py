"""PyTorch itself: computes every encoder, on processors and GPUs."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch
from torch import nn

from lineup import paths
from lineup.engines.engine import Forward, Vectors
from lineup.errors import UserError

PACKAGES = ()
PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}
CPU_SHAPE = 8  # images; larger ones are no faster, and take more memory


def cpu_shape(module: nn.Module) -> int:
    return CPU_SHAPE


def compile(
    module: nn.Module, pixels: torch.Tensor, precision: str, device: torch.device, threads: int
) -> Forward:
    """The module in the layout that its convolutions are fastest in; other precisions than float32 by torch's
    own casts.

    Which of its kernels oneDNN takes, and so the last bit, follows from the shape and the number of threads
    (tried): a thread that calls the result is set to compute alone.
    """
    _keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = getattr(torch, precision)

    def forward(pixels: torch.Tensor) -> Vectors:
        try:
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                return (
                    module(pixels.to(device, memory_format=torch.channels_last, non_blocking=True))
                    .float()
                    .cpu()
                    .numpy()
                )
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"{paths.PARAMS}: embed.batch_size {len(pixels)} doesn't fit the GPU's memory; halve it"
            ) from None

    return forward


def _keep_freed_memory() -> None:
    """Lets glibc reuse the memory of activations; by default it returns each to the system and gets it back,
    zeroed, at once.

    That took more than half of the processor time of a forward pass. Without glibc nothing happens.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
