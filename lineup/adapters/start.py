"""Where an adapter starts: at the vectors of its encoder, or at a whitening of them."""

from __future__ import annotations

import logging

import torch
from torch import nn

from lineup.adapters import whitening
from lineup.adapters.whitening import LabelStatistics, Start
from lineup.training.validation import HeldOut, retrieval_score

_SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
_PARTS_OF_DIM = (1, 2, 4, 8)  # a smaller vector is chosen only if it is better
log = logging.getLogger(__name__)


def choose(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    validation: torch.Tensor,
    held_out: HeldOut,
    dim: int | None,
) -> Start:
    """Where an adapter starts: at the encoder or at a whitening, whichever is best for held-out labels.

    Args:
        vectors: float32 [N, D], of length 1, to learn the whitening from.
        labels: int64 [N].
        validation: float32 [M, D], of length 1.
        held_out: their labels.
        dim: at most D; None leaves it to the held-out labels, too.
    """

    def score(start: Start) -> float:
        images = start(validation)[:, :, None, None].numpy()
        value = retrieval_score(nn.Flatten(), images, held_out.labels, torch.device("cpu"))
        assert value is not None
        log.info("start: %s: map_at_r of held-out labels %.4f", start.name, value)
        return value

    encoder = whitening.none(vectors, dim or vectors.shape[1])
    if held_out.fault:
        return encoder
    statistics = LabelStatistics(vectors, labels)
    best = max((statistics.whitening(shrinkage) for shrinkage in _SHRINKAGES), key=score)
    dims = [dim] if dim else [vectors.shape[1] // part for part in _PARTS_OF_DIM]
    return max([encoder, *statistics.narrowed(best, dims)], key=score)
