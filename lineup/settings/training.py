"""The `objective` of a row, and `train`: the settings of the training loop that every row starts from.

A row's objective may hold any setting of `train` too; there it counts for this row alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lineup.settings.schema import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Augmentation(Strict):
    """How training images are varied, image by image."""

    crop: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="smallest share of the area that a random crop keeps; 1: no cropping",
    )
    flip: Share = Field(default=0.5, description="probability of mirroring left and right")
    colour: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="strength of random brightness, contrast, saturation; a quarter of it for hue",
    )
    grey: Share = Field(default=0.1, description="probability of losing all colour")
    blur: Share = Field(default=0.1, description="probability of a Gaussian blur")


class Train(Strict):
    """The loop: sampling, optimiser, validation, clock."""

    epochs: int = Field(default=10, ge=1, le=10_000)
    max_minutes: float = Field(
        default=60, gt=0, description="the row's clock: training stops there and keeps the best so far"
    )
    learning_rate: float = Field(
        default=3e-4, gt=0, lt=10, description="of new parts: an embedding head, an objective's own weights"
    )
    backbone_lr_scale: float = Field(
        default=1.0, ge=0, le=10, description="the network's learning rate, in parts of learning_rate"
    )
    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    warmup_share: Share = Field(
        default=0.1,
        description="share of all steps in which the learning rate rises; then it follows a cosine to 0",
    )
    max_gradient_norm: Positive = 5.0
    labels_per_batch: int = Field(default=32, ge=2, le=65_536)
    images_per_label: int = Field(default=2, ge=1, le=1_024)
    batch_size: int = Field(
        default=64, ge=2, le=65_536, description="images; only where labels are not used (simclr)"
    )
    images_per_epoch: int | None = Field(
        default=None, ge=2, description="default: as many as there are to train on"
    )
    on_single_image: Literal["fail", "skip"] = Field(
        default="fail", description="labels with one image, where an objective compares pairs"
    )
    dim: int | None = Field(
        default=None, ge=2, le=65_536, description="a linear embedding head of this size behind the network"
    )
    freeze: int = Field(
        default=0, ge=0, description="the network's first n layers that have weights stay as they are"
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="train", description="frozen: the running statistics are used and kept"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of a moving average of the weights, which is then kept"
    )
    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the labels held out of training, two at least; none where these would be missed",
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a better map_at_r"
    )
    image_size: int | None = Field(
        default=None, ge=16, le=2048, description="pixels, for training only; default: the encoder's own"
    )
    augmentation: Augmentation = Augmentation()
    memory_mb: int = Field(
        default=4096,
        ge=1,
        description="decoded images are kept in memory up to this, else in a file that is mapped",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: mixed on CUDA, else float32"
    )


@dataclass(frozen=True)
class Needs:
    """What a batch must hold. labels: of images, for sampling and for the loss; pairs: two images of a label;
    views: augmented copies of an image.

    Without labels the loss gets numbers 0..B/views-1 that only say which views show one image.
    """

    labels: bool = True
    pairs: bool = False
    views: int = 1


class _Trained(Train):
    """An objective with weights to train: its own settings, and any of `train` for its row alone."""

    @property
    def needs(self) -> Needs:
        return Needs()


class NoObjective(Strict):
    """The encoder is used as it was fetched."""

    name: Literal["none"]


class Softmax(_Trained):
    """Classification into the training labels; the classifier is dropped afterwards."""

    name: Literal["softmax"]
    temperature: float | None = Field(
        default=None, gt=0, description="set: cosines divided by this are classified, not dot products"
    )
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class Contrastive(_Trained):
    """Siamese networks: pairs of one label are drawn together, others pushed beyond a margin (Euclidean, of
    unit vectors: 0..2).
    """

    name: Literal["contrastive"]
    positive_margin: float = Field(default=0.0, ge=0, lt=2)
    negative_margin: float = Field(default=1.0, gt=0, le=2)

    @property
    def needs(self) -> Needs:
        return Needs(pairs=True)


class Triplet(_Trained):
    """Anchor nearer to its positive than to its negative by a margin (Euclidean, of unit vectors: 0..2)."""

    name: Literal["triplet"]
    margin: float = Field(default=0.2, gt=0, le=2)
    mining: Literal["semihard", "hard", "all"] = "semihard"

    @property
    def needs(self) -> Needs:
        return Needs(pairs=True)


class ArcFace(_Trained):
    """Softmax over cosines with an additive angular margin."""

    name: Literal["arcface"]
    margin: float = Field(default=0.5, ge=0, lt=3.14159, description="radians")
    scale: Positive = 64.0
    class_vectors: Literal["imprinted", "random"] = Field(
        default="imprinted", description="start: the label's mean vector, or chance"
    )


class SimCLR(_Trained):
    """Two views of one image find each other among all others of the batch. Labels are never used."""

    name: Literal["simclr"]
    temperature: Positive = 0.1
    projection_dim: int = Field(default=128, ge=2, le=65_536)

    @property
    def needs(self) -> Needs:
        return Needs(labels=False, views=2)


class CLIP(_Trained):
    """An image finds its label's text, a text its images."""

    name: Literal["clip"]
    prompt: str = Field(
        default="a photo of a {label}", description="{label} is the label, with spaces for _ and -"
    )
    temperature: Positive | None = Field(
        default=None, description="where its learning starts; default: the checkpoint's own, or 0.07"
    )
    text_width: int = Field(
        default=256, ge=32, le=4_096, description="of the small text transformer, where the encoder has none"
    )
    text_layers: int = Field(default=2, ge=1, le=48)

    @model_validator(mode="after")
    def _prompt_names_the_label(self) -> CLIP:
        if "{label}" not in self.prompt:
            raise ValueError(f"prompt {self.prompt!r} must hold {{label}}, which stands for the label's name")
        return self


CLASS_WISE_LOSSES = (
    frozenset(  # of pytorch-metric-learning: they hold a vector per label, and need no two images of one
        f"{name}Loss"
        for name in (
            *("ArcFace", "CosFace", "LargeMarginSoftmax", "NormalizedSoftmax", "P2SGrad"),
            *("ProxyAnchor", "ProxyNCA", "SoftTriple", "SphereFace", "SubCenterArcFace"),
        )
    )
)


class MetricLoss(_Trained):
    """Any loss of pytorch-metric-learning by its class name."""

    name: Literal["metric_loss"]
    loss: str
    arguments: dict[str, Any] = Field(
        default={}, description="of the loss's constructor, but num_classes and embedding_size"
    )

    @property
    def needs(self) -> Needs:
        return Needs(pairs=self.loss not in CLASS_WISE_LOSSES)

    @field_validator("arguments")
    @classmethod
    def _arguments_can_be_written_down(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("a date, .nan or .inf can't be passed on; put a date in quotes") from None
        return arguments


Trained = Softmax | Contrastive | Triplet | ArcFace | SimCLR | CLIP | MetricLoss
Objective = Annotated[NoObjective | Trained, Field(discriminator="name")]


def settings_of(defaults: Train, row: Train) -> Train:
    """The loop's settings for a row: what its objective says, else what `train` says."""
    augmentation = {
        **defaults.augmentation.model_dump(),
        **row.augmentation.model_dump(include=row.augmentation.model_fields_set),
    }
    said = {name: getattr(row, name) for name in row.model_fields_set & Train.model_fields.keys()}
    return Train(**{**defaults.model_dump(), **said, "augmentation": augmentation})
