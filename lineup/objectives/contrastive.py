"""Siamese networks: contrastive loss over all pairs of a batch.

Source: Hadsell, Chopra & LeCun, CVPR 2006.
"""

from __future__ import annotations

from pytorch_metric_learning import losses
from torch import nn

from lineup.objectives.objective import Context
from lineup.settings.training import Contrastive

PACKAGES = ("pytorch-metric-learning",)


def build(settings: Contrastive, context: Context) -> nn.Module:
    """max(d - positive_margin, 0) of pairs of one label, max(negative_margin - d, 0) of others; each averaged
    over what is above 0.

    d: Euclidean distance of L2-normalised vectors, so 0..2; not squared, as pytorch-metric-learning has it.
    """
    return losses.ContrastiveLoss(pos_margin=settings.positive_margin, neg_margin=settings.negative_margin)  # type: ignore[arg-type]
