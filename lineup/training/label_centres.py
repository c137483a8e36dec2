"""Where each label lies in the vectors of an encoder before its training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from lineup.training.pixel_scaling import PixelScaling

_IMAGES_PER_CENTRE = 3


def label_centres(
    module: nn.Module, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], scaling: PixelScaling
) -> torch.Tensor:
    """The mean direction of the vectors of each label's first few images.

    Args:
        module: the network, [B, 3, S, S] -> [B, D].
        pixels: uint8 [N, 3, S, S].
        labels: int64 [N], each of 0..max at least once.
        scaling: how the network sees pixels.
    Returns:
        float32 [labels, D], of unit length.
    """
    device = next(module.parameters()).device
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    rows = order[(np.arange(len(order)) - starts[labels[order]]) < _IMAGES_PER_CENTRE]
    sums: torch.Tensor | None = None
    module.eval()
    with torch.inference_mode():
        for batch in np.array_split(rows, max(1, len(rows) // 64)):
            images = torch.from_numpy(pixels[batch]).to(device).float()
            images = functional.interpolate(images, (scaling.size, scaling.size), mode="bilinear")
            vectors = functional.normalize(module(scaling.normalise(images)).float())
            sums = torch.zeros(len(starts), vectors.shape[1], device=device) if sums is None else sums
            sums.index_add_(0, torch.from_numpy(labels[batch]).to(device), vectors)
    assert sums is not None
    return functional.normalize(sums)
