"""Siamese networks: the contrastive loss over all pairs of a batch.

Source: Hadsell, Chopra & LeCun, CVPR 2006.
"""

from __future__ import annotations

from pytorch_metric_learning import losses

from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import Contrastive

PACKAGES = ("pytorch-metric-learning",)


def build(settings: Contrastive, context: Context) -> Objective:
    """Pulls the two images of a pair together if they share a label, and pushes them apart if they don't.

    A pair of one label costs max(d - positive_margin, 0), any other pair max(negative_margin - d, 0). Each of
    the two is averaged over the pairs that cost more than 0. d is the Euclidean distance of L2-normalised
    vectors, 0..2; it is not squared, as in pytorch-metric-learning and unlike the paper.
    """
    return Objective(
        losses.ContrastiveLoss(pos_margin=settings.positive_margin, neg_margin=settings.negative_margin)  # type: ignore[arg-type]
    )
