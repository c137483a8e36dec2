"""How well an encoder retrieves among images held out of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lineup.evaluation import metrics
from lineup.search import faiss_search, flat_index
from lineup.search.vectors import prepare_vectors

PERFECT_SCORE = 1.0  # the highest map_at_r
_BATCH_SIZE = 64


@dataclass(frozen=True)
class HeldOut:
    """The images held out of training.

    Args:
        labels: int64 [M], of the images; -1 where an image has none.
        may_choose: whether their score may choose the epoch whose weights are kept.
    """

    labels: npt.NDArray[np.int64]
    may_choose: bool

    @property
    def fault(self) -> str | None:
        """Why these images can't tell a good encoder from a bad one; None where they can."""
        return why_no_score(self.labels)


def retrieval_score(
    module: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device
) -> float | None:
    """map_at_r by cosine, with each image as a query among all others.

    Args:
        module: the network, [B, 3, H, W] -> [B, D].
        images: float32 [M, 3, H, W], as the encoder's transform makes them.
        labels: int64 [M]; -1 where an image has none.
        device: where the network is.
    Returns:
        0..1; None where no score could tell networks apart (`why_no_score`).
    """
    if why_no_score(labels):
        return None
    num_relevant = _others_of_its_label(labels)
    ids = [str(i) for i in range(len(labels))]
    vectors = prepare_vectors("cosine", ids, embed(module, images, device), "validation")
    index = flat_index.build("cosine", vectors.shape[1], len(vectors), [(ids, vectors)], "validation")
    self_matches = np.stack([np.arange(len(ids))] * 2, axis=1)
    positions, _ = faiss_search.nearest(index, vectors, int(num_relevant.max()), self_matches)
    relevant = (labels[positions] == labels[:, None]) & (positions >= 0) & (labels >= 0)[:, None]
    return float(np.nanmean(metrics.map_at_r(relevant, num_relevant)))


def why_no_score(labels: npt.NDArray[np.int64]) -> str | None:
    """Why held-out images can't tell a good encoder from a bad one; None where they can.

    labels: int64 [M]; -1 where an image has none.
    """
    if not len(labels):
        return "too few labels to hold two out"
    others = _others_of_its_label(labels)
    if not others.any():
        return "no two held-out images share a label"
    return "all held-out images share one label" if others.max() == len(labels) - 1 else None


def _others_of_its_label(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many other images share an image's label: int64 [M]."""
    return np.where(labels >= 0, np.bincount(labels + 1)[labels + 1] - 1, 0)


def embed(
    module: nn.Module, images: npt.NDArray[np.float32], device: torch.device
) -> npt.NDArray[np.float32]:
    """float32 [M, 3, H, W] -> [M, D], in evaluation mode."""
    module.eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH_SIZE):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH_SIZE])).to(
                device, memory_format=torch.channels_last
            )
            vectors.append(module(batch).float().cpu().numpy())
    return np.concatenate(vectors)
