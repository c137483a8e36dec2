"""SimCLR: two views of an image find each other (NT-Xent). Labels are never used.

Source: Chen et al., ICML 2020, equation 1.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses
from torch import nn

from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import SimCLR

PACKAGES = ("pytorch-metric-learning",)


class SimCLRLoss(nn.Module):
    """NT-Xent on the output of a projection of two layers.

    The projection is dropped after training: the vectors before it retrieve better (section 4.2).
    """

    def __init__(self, settings: SimCLR, context: Context) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(context.dim, context.dim),
            nn.ReLU(inplace=True),
            nn.Linear(context.dim, settings.projection_dim),
        )
        self.loss = losses.NTXentLoss(temperature=settings.temperature)

    def forward(self, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """vectors: [2B, D]; images: int64 [2B], equal for the two views of one image -> scalar."""
        return self.loss(self.projection(vectors), images)


def build(settings: SimCLR, context: Context) -> Objective:
    """The loss, with a projection whose weights start at random."""
    return Objective(SimCLRLoss(settings, context))
