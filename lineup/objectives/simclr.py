"""SimCLR: two views of an image find each other (NT-Xent).

Labels are never used. Source: Chen et al., ICML 2020, equation 1.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses
from torch import nn

from lineup.objectives.objective import Context
from lineup.settings.training import SimCLR

PACKAGES = ("pytorch-metric-learning",)


class SimCLRLoss(nn.Module):
    """NT-Xent behind a projection of two layers, which is dropped afterwards: the vectors before it retrieve
    better (section 4.2).
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
        """vectors: [2B, D]; images: int64 [2B], which two are views of one image -> scalar."""
        return self.loss(self.projection(vectors), images)


def build(settings: SimCLR, context: Context) -> nn.Module:
    return SimCLRLoss(settings, context)
