"""A network as the graph of operations that one batch went through, which is what other engines convert."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

MANY_WEIGHTS = 50_000_000


def cpu_shape(module: nn.Module) -> int:
    """Images in each call. Many weights are read once for 8 images; a smaller network's activations stay in
    the core's cache.

    Images/s with 1 and 8, OpenVINO and ONNX Runtime on two cores, 2 MB of second-level cache: MobileNetV2
    (3.5 million weights) 230 and 195, 224 and 226; ResNet50 (26 million) 23.6 and 23.3, 23.1 and 22.3; CLIP
    ViT-B/32 (88 million) 18.7 and 19.9, 16.9 and 18.8.
    """
    return 8 if sum(parameter.numel() for parameter in module.parameters()) > MANY_WEIGHTS else 1


@contextmanager
def tracing(module: nn.Module) -> Iterator[None]:
    """Inside it, a module's operations can be recorded: attention as the operations it is made of, quietly,
    without gradients.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation of torch's own, which no other engine has
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing, and whatever branches on a size, which is fixed here
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
