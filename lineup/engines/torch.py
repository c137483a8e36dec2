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
# Images in each call on a CPU. Larger batches are no faster, and take more memory.
CPU_SHAPE = 8


def cpu_shape(module: nn.Module) -> int:
    """The same for every network."""
    return CPU_SHAPE


def compile(
    module: nn.Module, pixels: torch.Tensor, precision: str, device: torch.device, threads: int
) -> Forward:
    """The module in the memory layout in which convolutions are fastest.

    Other precisions than float32 are torch's autocast. oneDNN chooses a kernel, and with it the last bit, by
    the shape and the number of threads (tried). So the threads that call the result must each be set to
    compute alone.
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
                f"{paths.PARAMS}: embed.batch_size {len(pixels)} doesn't fit into the GPU's memory; halve it"
            ) from None

    return forward


def _keep_freed_memory() -> None:
    """Lets glibc reuse the memory of activations, for the whole process. Without glibc nothing happens.

    By default glibc returns such memory to the system and gets it back, zeroed, at once. That took more than
    half of the processor time of a forward pass.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
