"""What the engines share that convert a network traced on one batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# From this number of weights on, a network is faster with 8 images in each call than with one.
MANY_WEIGHTS = 50_000_000


def cpu_shape(module: nn.Module) -> int:
    """The number of images in each call.

    A large network reads its weights once for 8 images. A smaller one's activations of a single image stay in
    the core's cache. Images/s with 1 and 8 images, of OpenVINO and ONNX Runtime on two cores with 2 MB of
    second-level cache: MobileNetV2 (3.5 million weights) 230 and 195, 224 and 226; ResNet50 (26 million) 23.6
    and 23.3, 23.1 and 22.3; CLIP ViT-B/32 (88 million) 18.7 and 19.9, 16.9 and 18.8.
    """
    return 8 if sum(parameter.numel() for parameter in module.parameters()) > MANY_WEIGHTS else 1


@contextmanager
def tracing(module: nn.Module) -> Iterator[None]:
    """In the block, a module is traced without gradients, and with attention as separate operations.

    torch's fast path for attention is one operation, which no other engine has.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about branches that depend on a size, which is fixed here
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
