"""How well an encoder retrieves among images held out of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lineup.evaluation import metrics
from lineup.search import exact

_BATCH = 64


@dataclass(frozen=True)
class HeldOut:
    """labels: int64 [M], of the images held out, -1 where there is none.

    Choose: whether they may choose the epoch that is kept.
    """

    labels: npt.NDArray[np.int64]
    choose: bool

    @property
    def unvalidated(self) -> str | None:
        """Why they can't tell a good encoder from a bad one; None where they can."""
        return why_no_score(self.labels)


def retrieval_score(
    module: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device
) -> float | None:
    """map_at_r with each image as a query among all others, by cosine; None where it would tell nothing
    (`why_no_score`).

    images: float32 [M, 3, H, W], as the encoder is used; labels: int64 [M], -1 where there is none.
    """
    if why_no_score(labels):
        return None
    total = _others_of_its_label(labels)
    ids = [str(i) for i in range(len(labels))]
    vectors = exact.prepare("cosine", ids, embed(module, images, device), "validation")
    index = exact.build("cosine", vectors.shape[1], len(vectors), [(ids, vectors)], "validation")
    itself = np.stack([np.arange(len(ids))] * 2, axis=1)
    positions, _ = exact.nearest(index, vectors, int(total.max()), itself)
    relevant = (labels[positions] == labels[:, None]) & (positions >= 0) & (labels >= 0)[:, None]
    return float(np.nanmean(metrics.map_at_r(relevant, total)))


def why_no_score(labels: npt.NDArray[np.int64]) -> str | None:
    """Why held-out images can't tell a good encoder from a bad one; None where they can.

    labels: int64 [M], -1 where there is none.
    """
    if not len(labels):
        return "too few labels to hold two out"
    others = _others_of_its_label(labels)
    if not others.any():
        return "no two held-out images share a label"
    return "all held-out images share one label" if others.max() == len(labels) - 1 else None


def _others_of_its_label(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many other images have an image's label: int64 [M]."""
    return np.where(labels >= 0, np.bincount(labels + 1)[labels + 1] - 1, 0)


def embed(
    module: nn.Module, images: npt.NDArray[np.float32], device: torch.device
) -> npt.NDArray[np.float32]:
    """float32 [M, 3, H, W] -> [M, D], in evaluation mode."""
    module.eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])).to(
                device, memory_format=torch.channels_last
            )
            vectors.append(module(batch).float().cpu().numpy())
    return np.concatenate(vectors)
