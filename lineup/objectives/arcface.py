"""ArcFace: softmax over cosines with an additive angular margin.

Source: Deng et al., CVPR 2019, equation 3.
"""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning import losses
from torch import nn

from lineup.objectives.objective import Context
from lineup.settings.training import ArcFace

PACKAGES = ("pytorch-metric-learning",)


class ImprintedArcFace(losses.ArcFaceLoss):
    """ArcFace whose class vectors start at the classes' own images. Source: Qi, Brown & Lowe, CVPR 2018.

    From random ones a pretrained network first unlearns what it knew.
    """

    def imprint(self, centres: torch.Tensor) -> None:
        """centres: float32 [classes, D]."""
        self.W.data.copy_(centres.T)


def build(settings: ArcFace, context: Context) -> nn.Module:
    """Cross entropy of scale * cos(theta + margin) for the own class against scale * cos(theta) for the
    others.
    """
    margin_degrees = math.degrees(settings.margin)
    kind = ImprintedArcFace if settings.class_vectors == "imprinted" else losses.ArcFaceLoss
    return kind(len(context.labels), context.dim, margin=margin_degrees, scale=settings.scale)  # type: ignore[arg-type]
