"""The `objective` of a row: what its encoder is fine-tuned with, if with anything."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineup.settings.adapter import Adapter
from lineup.settings.metric_loss import MetricLoss
from lineup.settings.schema import Strict
from lineup.settings.trained_objectives import (
    CLIP,
    ArcFace,
    Contrastive,
    SimCLR,
    Softmax,
    Triplet,
)


class NoObjective(Strict):
    """The encoder is used as it was fetched."""

    name: Literal["none"]


Trained = Softmax | Contrastive | Triplet | ArcFace | SimCLR | CLIP | MetricLoss | Adapter
Objective = Annotated[NoObjective | Trained, Field(discriminator="name")]
