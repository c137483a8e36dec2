"""ArcFace: softmax over cosines with an additive angular margin.

Source: Deng et al., CVPR 2019, equation 3.
"""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning import losses

from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import ArcFace

PACKAGES = ("pytorch-metric-learning",)


def build(settings: ArcFace, context: Context) -> Objective:
    """Cross entropy of scale * cos(theta + margin) for the image's own label, scale * cos(theta) for others.

    theta is the angle between an image's vector and a label's. With `class_vectors: imprinted` the labels'
    vectors start at the mean direction of their images (Qi, Brown & Lowe, CVPR 2018). From random ones, a
    pretrained network first unlearns what it knew.
    """
    loss = losses.ArcFaceLoss(
        num_classes=len(context.labels),
        embedding_size=context.dim,
        margin=math.degrees(settings.margin),  # type: ignore[arg-type]  (annotated as int)
        scale=settings.scale,  # type: ignore[arg-type]
    )

    def imprint(centres: torch.Tensor) -> None:
        loss.W.data.copy_(centres.T)  # [D, labels]

    return Objective(loss, imprint=imprint if settings.class_vectors == "imprinted" else None)
