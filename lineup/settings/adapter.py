"""The settings of the objective `adapter`: linear layers on the vectors of an encoder that is frozen."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from lineup.errors import suggest
from lineup.settings.explanation import explain
from lineup.settings.metric_loss import CLASS_WISE_LOSSES, MetricLoss
from lineup.settings.trained_objectives import (
    ArcFace,
    Contrastive,
    Needs,
    Softmax,
    TrainedObjective,
    Triplet,
)
from lineup.settings.training import Train

_ADAPTER_LOSSES = {"arcface": ArcFace, "softmax": Softmax, "contrastive": Contrastive, "triplet": Triplet}
# Settings of a training on photos, which mean nothing for one on vectors.
_OF_PHOTOS = frozenset(
    {
        *("augmentation", "batch_norm", "batch_size", "blend", "ema", "freeze", "image_size"),
        *("lora", "memory_mb", "precision"),
    }
)


class Adapter(TrainedObjective):
    """One or two linear layers on the vectors of the encoder, which is frozen.

    The section `train` is for trainings of whole networks. The settings in `LOOP` have their defaults here,
    whatever that section says.
    """

    LOOP: ClassVar[dict[str, Any]] = {
        "epochs": 24,
        "learning_rate": 3e-4,
        "backbone_lr_scale": 1.0,
        "weight_decay": 0.01,
        "images_per_epoch": None,
        "patience": 3,
        "dim": None,
    }

    name: Literal["adapter"]
    loss: str = Field(
        default="MultiSimilarityLoss",
        description="arcface, softmax, contrastive, triplet, or a class of pytorch-metric-learning",
    )
    arguments: dict[str, Any] = Field(
        default={}, description="the loss's own settings, as {margin: 0.3} for arcface"
    )
    layers: int = Field(default=1, description="1 or 2; the second has a ReLU before it")

    @model_validator(mode="before")
    @classmethod
    def _has_a_loop_of_its_own(cls, settings: Any) -> Any:
        return {**cls.LOOP, **settings} if isinstance(settings, dict) else settings

    @model_validator(mode="after")
    def _check_layers(self) -> Adapter:
        if self.layers not in (1, 2):
            raise ValueError(f"layers is {self.layers}, but an adapter has 1 or 2; set layers to 1 or 2")
        return self

    @model_validator(mode="after")
    def _check_settings_of_photos(self) -> Adapter:
        of_photos = sorted(self.model_fields_set & _OF_PHOTOS)
        if of_photos:
            raise ValueError(
                f"{of_photos[0]} is for a training on photos, and an adapter learns from vectors; remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_loss(self) -> Adapter:
        if self.loss not in _ADAPTER_LOSSES and not self.loss.endswith("Loss"):
            known = (*_ADAPTER_LOSSES, *sorted(CLASS_WISE_LOSSES), "MultiSimilarityLoss")
            raise ValueError(
                f"loss is {self.loss!r}, which an adapter doesn't have{suggest(self.loss, known)}"
            )
        return self

    @model_validator(mode="after")
    def _check_arguments(self) -> Adapter:
        kind = _ADAPTER_LOSSES.get(self.loss, MetricLoss)
        own = kind.model_fields.keys() - Train.model_fields.keys() - {"name", "loss", "arguments"}
        if kind is not MetricLoss and (unknown := sorted(self.arguments.keys() - own)):
            raise ValueError(f"arguments.{unknown[0]} is unknown to {self.loss}{suggest(unknown[0], own)}")
        settings = self._loss_document()
        try:
            kind.model_validate(settings)
        except ValidationError as error:
            fault = explain(error, kind, settings)
            raise ValueError(fault if kind is MetricLoss else f"arguments.{fault}") from None
        return self

    def _loss_document(self) -> dict[str, Any]:
        """The loss as the `objective` of a row that trains a whole encoder with it."""
        if self.loss in _ADAPTER_LOSSES:
            return {"name": self.loss, **self.arguments}
        return {"name": "metric_loss", "loss": self.loss, "arguments": self.arguments}

    @property
    def loss_settings(self) -> Softmax | Contrastive | Triplet | ArcFace | MetricLoss:
        """The settings of the objective whose loss this is."""
        return _ADAPTER_LOSSES.get(self.loss, MetricLoss).model_validate(self._loss_document())

    @property
    def needs(self) -> Needs:
        """As the objective whose loss this is."""
        return self.loss_settings.needs
