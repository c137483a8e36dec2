"""Classification into the training labels.

Source of the variant with cosines: Zhai & Wu, BMVC 2019 (normalised softmax).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import Softmax

PACKAGES = ()


class LinearSoftmax(nn.Module):
    """Cross entropy of a linear classifier, with label smoothing."""

    def __init__(self, settings: Softmax, context: Context) -> None:
        super().__init__()
        self.smoothing = settings.label_smoothing
        self.classifier = nn.Linear(context.dim, len(context.labels))

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        return functional.cross_entropy(self.classifier(vectors), labels, label_smoothing=self.smoothing)


class CosineSoftmax(nn.Module):
    """Cross entropy of cosines with the labels' vectors divided by a temperature, with label smoothing."""

    def __init__(self, temperature: float, settings: Softmax, context: Context) -> None:
        super().__init__()
        self.temperature, self.smoothing = temperature, settings.label_smoothing
        self.classifier = nn.Linear(context.dim, len(context.labels), bias=False)

    def imprint(self, centres: torch.Tensor) -> None:
        """Starts each label's vector at the mean direction of its images: centres, float32 [labels, D].

        Source: Qi, Brown & Lowe, CVPR 2018.
        """
        self.classifier.weight.data.copy_(centres)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        cosines = functional.linear(
            functional.normalize(vectors), functional.normalize(self.classifier.weight)
        )  # [B, labels]
        return functional.cross_entropy(cosines / self.temperature, labels, label_smoothing=self.smoothing)


def build(settings: Softmax, context: Context) -> Objective:
    """A linear classifier, or, where a temperature is set, one of cosines."""
    if settings.temperature is None:
        return Objective(LinearSoftmax(settings, context))
    loss = CosineSoftmax(settings.temperature, settings, context)
    return Objective(loss, imprint=loss.imprint)
