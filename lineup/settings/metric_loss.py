"""The settings of the objective `metric_loss`: any loss of pytorch-metric-learning."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, field_validator

from lineup.settings.trained_objectives import Needs, TrainedObjective

# The losses of pytorch-metric-learning that hold a vector per label, and so need no two images of one label.
CLASS_WISE_LOSSES = frozenset(
    f"{name}Loss"
    for name in (
        *("ArcFace", "CosFace", "LargeMarginSoftmax", "NormalizedSoftmax", "P2SGrad"),
        *("ProxyAnchor", "ProxyNCA", "SoftTriple", "SphereFace", "SubCenterArcFace"),
    )
)


class MetricLoss(TrainedObjective):
    """Any loss of pytorch-metric-learning, by its class name."""

    name: Literal["metric_loss"]
    loss: str
    arguments: dict[str, Any] = Field(
        default={}, description="of the loss's constructor, without num_classes and embedding_size"
    )

    @property
    def needs(self) -> Needs:
        """Pairs, unless the loss compares images with classes."""
        return Needs(pairs=self.loss not in CLASS_WISE_LOSSES)

    @field_validator("arguments")
    @classmethod
    def _arguments_are_json(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("a date, .nan or .inf can't be passed on; put a date in quotes") from None
        return arguments
