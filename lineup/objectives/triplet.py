"""Triplet network: a margin loss over mined triplets.

Source: Schroff, Kalenichenko & Philbin, CVPR 2015 (FaceNet).
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import Triplet

PACKAGES = ("pytorch-metric-learning",)


class TripletLoss(nn.Module):
    """max(d(a, p) - d(a, n) + margin, 0), averaged over mined triplets: anchor a, positive p, negative n.

    d is the Euclidean distance of L2-normalised vectors. Which triplets of a batch count:

    - semihard: those whose negative is farther from the anchor than the positive, but within the margin.
    - hard: for each anchor its farthest positive and nearest negative (Hermans et al., 2017).
    - all: every triplet that violates the margin.

    Where a batch has no semi-hard triplet, all that violate the margin count. Otherwise a collapsed network,
    which gives all images one vector, would never get a gradient.
    """

    def __init__(self, settings: Triplet) -> None:
        super().__init__()
        self.loss = losses.TripletMarginLoss(margin=settings.margin)
        kind = settings.mining
        self.miner = (
            miners.BatchHardMiner()
            if kind == "hard"
            else miners.TripletMarginMiner(settings.margin, type_of_triplets=kind)
        )
        self.fallback = (
            miners.TripletMarginMiner(settings.margin, type_of_triplets="all") if kind == "semihard" else None
        )

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        triplets = self.miner(vectors, labels)
        if self.fallback is not None and len(triplets[0]) == 0:
            triplets = self.fallback(vectors, labels)
        return self.loss(vectors, labels, triplets)


def build(settings: Triplet, context: Context) -> Objective:
    """The loss, which has no weights of its own."""
    return Objective(TripletLoss(settings))
