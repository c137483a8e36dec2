"""How well an encoder retrieves among images held out of training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from stages.lib import ranking_metrics, search

_BATCH = 64


def retrieval_score(
    module: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device
) -> float | None:
    """map_at_r with each image as a query among all others, by cosine; None where no two images share a label.

    images: float32 [M, 3, H, W], as the encoder is used; labels: int64 [M], -1 where there is none.
    """
    total = np.where(labels >= 0, np.bincount(labels + 1)[labels + 1] - 1, 0) if len(labels) else labels
    if not (total > 0).any():
        return None
    ids = [str(i) for i in range(len(labels))]
    vectors = search.prepare("cosine", ids, embed(module, images, device), "validation")
    index = search.build("cosine", vectors.shape[1], len(vectors), [(ids, vectors)], "validation")
    itself = np.stack([np.arange(len(ids))] * 2, axis=1)
    positions, _ = search.nearest(index, vectors, int(total.max()), itself)
    relevant = (labels[positions] == labels[:, None]) & (positions >= 0) & (labels >= 0)[:, None]
    return float(np.nanmean(ranking_metrics.map_at_r(relevant, total)))


def embed(module: nn.Module, images: npt.NDArray[np.float32], device: torch.device) -> npt.NDArray[np.float32]:
    """float32 [M, 3, H, W] -> [M, D], in evaluation mode."""
    module.eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])).to(device, memory_format=torch.channels_last)
            vectors.append(module(batch).float().cpu().numpy())
    return np.concatenate(vectors)
