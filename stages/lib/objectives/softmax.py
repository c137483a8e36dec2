"""Classification into the training labels. Source of the cosine variant: Zhai & Wu, BMVC 2019 (normalised softmax)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from stages.lib.objectives import Context, Needs
from stages.lib.training_params import Softmax


class SoftmaxLoss(nn.Module):
    """Cross entropy of a linear classifier, with label smoothing; with a temperature, of cosines divided by it."""

    def __init__(self, settings: Softmax, context: Context) -> None:
        super().__init__()
        self.temperature, self.smoothing = settings.temperature, settings.label_smoothing
        self.classifier = nn.Linear(context.dim, len(context.labels), bias=settings.temperature is None)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        if self.temperature is None:
            logits = self.classifier(vectors)  # [B, classes]
        else:
            logits = functional.linear(functional.normalize(vectors), functional.normalize(self.classifier.weight)) / self.temperature
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


def needs(settings: Softmax) -> Needs:
    return Needs()


def build(settings: Softmax, context: Context) -> nn.Module:
    return SoftmaxLoss(settings, context)
