"""The settings of training: a row's `objective`, and the section `train` that every trained row starts from.

A setting of the training loop, such as `epochs`, may come from three places. The first that has it counts:

1. the row's `objective` in params.yaml, for this row alone;
2. the section `train` of params.yaml, for every row;
3. the default of the class `Train`.

`settings_of` puts them together. A setting of an objective itself, such as ArcFace's `margin`, comes from the
row's `objective`, or is the default of the objective's class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from lineup.errors import suggest
from lineup.settings.schema import Strict, explain

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Augmentation(Strict):
    """How each training image is varied at random."""

    crop: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="the smallest share of an image's area that a random crop keeps; 1 crops nothing",
    )
    flip: Share = Field(default=0.5, description="probability that left and right are swapped")
    colour: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="strength of random brightness, contrast and saturation; a quarter of it for hue",
    )
    grey: Share = Field(default=0.1, description="probability that an image becomes grey")
    blur: Share = Field(default=0.1, description="probability of a Gaussian blur")


# Names of linear layers within attention blocks, in the networks of all libraries.
LORA_LAYERS = ("*attn*", "*attention*")


class Lora(Strict):
    """LoRA: small matrices beside some linear layers are trained, and the network's own weights are not."""

    rank: int = Field(default=8, ge=1, le=1_024, description="of the matrices that are trained")
    alpha: float = Field(
        default=16, gt=0, le=65_536, description="the matrices' output is scaled by alpha / rank"
    )
    layers: tuple[str, ...] = Field(
        default=LORA_LAYERS,
        strict=False,
        min_length=1,
        description="patterns of the linear layers' names, with * for anything; default: those of attention",
    )


class Train(Strict):
    """The training loop: its length, optimiser, batches, network, validation, images and device."""

    epochs: int = Field(default=10, ge=1, le=10_000)
    max_minutes: float = Field(
        default=60, gt=0, description="training stops after so long, and keeps its best epoch so far"
    )
    learning_rate: float = Field(
        default=3e-4, gt=0, lt=10, description="of new weights: an embedding head's, an objective's own"
    )
    backbone_lr_scale: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="the fetched network's learning rate, as a multiple of learning_rate",
    )
    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    warmup_share: Share = Field(
        default=0.1,
        description="share of all steps in which the learning rate rises; then it falls to 0 along a cosine",
    )
    max_gradient_norm: Positive = 5.0
    labels_per_batch: int = Field(default=32, ge=2, le=65_536)
    images_per_label: int = Field(default=2, ge=1, le=1_024)
    batch_size: int = Field(
        default=64, ge=2, le=65_536, description="images of a batch where labels are not used (simclr)"
    )
    images_per_epoch: int | None = Field(
        default=None, ge=2, description="default: the number of images to train on"
    )
    on_single_image: Literal["fail", "skip"] = Field(
        default="fail", description="what to do with a label of one image where an objective compares pairs"
    )
    dim: int | None = Field(
        default=None, ge=2, le=65_536, description="adds a linear embedding head with this many dimensions"
    )
    freeze: int = Field(
        default=0, ge=0, description="how many layers keep their weights, counted from the first that has any"
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="train", description="frozen: batch norms use their running statistics and keep them"
    )
    lora: Lora | None = Field(
        default=None, description="trains low-rank matrices instead of the fetched network's weights"
    )
    blend: Share = Field(
        default=1.0,
        description="share of the trained weights in the result; the rest is their start (WiSE-FT)",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which then takes their place",
    )
    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the labels that are held out, at least two; none where too few would be left",
    )
    patience: int | None = Field(
        default=None, ge=1, description="stops after this many epochs without a better map_at_r"
    )
    image_size: int | None = Field(
        default=None, ge=16, le=2048, description="pixels, in training only; default: the encoder's own"
    )
    augmentation: Augmentation = Augmentation()
    memory_mb: int = Field(
        default=4096,
        ge=1,
        description="decoded images that take more are mapped from a file",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: mixed precision on CUDA, else float32"
    )


@dataclass(frozen=True)
class Needs:
    """What a batch must hold for an objective.

    Args:
        labels: whether the objective knows labels, for its batches and its loss. Without them the loss gets
            the numbers 0 to B/views - 1, which only tell which views show the same image.
        pairs: whether it compares two images of one label.
        views: how many augmented copies of an image it compares.
    """

    labels: bool = True
    pairs: bool = False
    views: int = 1


class _TrainedObjective(Train):
    """An objective that trains weights: its own settings, and any setting of `train` for its row alone."""

    # Left out where it is 1, so that a row without it has the training that it had before there was one.
    label_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        exclude_if=lambda share: share == 1,
        description="share of the training labels that the training sees, each with all its photos; "
        "a larger share contains a smaller one",
    )

    @property
    def needs(self) -> Needs:
        return Needs()


class NoObjective(Strict):
    """The encoder is used as it was fetched."""

    name: Literal["none"]


class Softmax(_TrainedObjective):
    """Classification into the training labels; the classifier is dropped after training."""

    name: Literal["softmax"]
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="where it is set, cosines divided by it are classified instead of dot products",
    )
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class Contrastive(_TrainedObjective):
    """Siamese networks: pairs of one label are pulled together, other pairs pushed apart beyond a margin.

    Margins are Euclidean distances of unit vectors, 0..2.
    """

    name: Literal["contrastive"]
    positive_margin: float = Field(default=0.0, ge=0, lt=2)
    negative_margin: float = Field(default=1.0, gt=0, le=2)

    @property
    def needs(self) -> Needs:
        """Pairs of one label."""
        return Needs(pairs=True)


class Triplet(_TrainedObjective):
    """Triplet network: an anchor gets nearer to its positive than to its negative by a margin.

    The margin is a Euclidean distance of unit vectors, 0..2.
    """

    name: Literal["triplet"]
    margin: float = Field(default=0.2, gt=0, le=2)
    mining: Literal["semihard", "hard", "all"] = "semihard"

    @property
    def needs(self) -> Needs:
        """Pairs of one label."""
        return Needs(pairs=True)


class ArcFace(_TrainedObjective):
    """ArcFace: softmax over cosines with an additive angular margin."""

    name: Literal["arcface"]
    margin: float = Field(default=0.5, ge=0, lt=3.14159, description="radians")
    scale: Positive = 64.0
    class_vectors: Literal["imprinted", "random"] = Field(
        default="imprinted",
        description="where a label's vector starts: at the mean of its images, or at random",
    )


class SimCLR(_TrainedObjective):
    """SimCLR: two views of an image find each other among all others of the batch, without labels."""

    name: Literal["simclr"]
    temperature: Positive = 0.1
    projection_dim: int = Field(default=128, ge=2, le=65_536)

    @property
    def needs(self) -> Needs:
        """Two views of each image, and no labels."""
        return Needs(labels=False, views=2)

    @model_validator(mode="after")
    def _has_no_label_share(self) -> SimCLR:
        if self.label_share < 1:
            raise ValueError("label_share is set, but simclr uses no labels; remove it")
        return self


class CLIP(_TrainedObjective):
    """CLIP: an image finds the text of its label, and a text finds its images."""

    name: Literal["clip"]
    prompt: str = Field(
        default="a photo of a {label}",
        description="a label's text; {label} is the label with spaces for _ and -",
    )
    temperature: Positive | None = Field(
        default=None, description="where the learned temperature starts; default: the encoder's own, or 0.07"
    )
    text_width: int = Field(
        default=256,
        ge=32,
        le=4_096,
        description="width of the small text transformer that is used where the encoder has no text tower",
    )
    text_layers: int = Field(default=2, ge=1, le=48)

    @model_validator(mode="after")
    def _prompt_names_the_label(self) -> CLIP:
        if "{label}" not in self.prompt:
            raise ValueError(f"prompt {self.prompt!r} must hold {{label}}, which stands for the label's name")
        return self


# The losses of pytorch-metric-learning that hold a vector per label, and so need no two images of one label.
CLASS_WISE_LOSSES = frozenset(
    f"{name}Loss"
    for name in (
        *("ArcFace", "CosFace", "LargeMarginSoftmax", "NormalizedSoftmax", "P2SGrad"),
        *("ProxyAnchor", "ProxyNCA", "SoftTriple", "SphereFace", "SubCenterArcFace"),
    )
)


class MetricLoss(_TrainedObjective):
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


_ADAPTER_LOSSES = {"arcface": ArcFace, "softmax": Softmax, "contrastive": Contrastive, "triplet": Triplet}
# Settings of a training on photos, which mean nothing for one on vectors.
_OF_PHOTOS = frozenset(
    {
        *("augmentation", "batch_norm", "batch_size", "blend", "ema", "freeze", "image_size"),
        *("lora", "memory_mb", "precision"),
    }
)


class Adapter(_TrainedObjective):
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
    def _check(self) -> Adapter:
        if self.layers not in (1, 2):
            raise ValueError(f"layers is {self.layers}, but an adapter has 1 or 2; set layers to 1 or 2")
        of_photos = sorted(self.model_fields_set & _OF_PHOTOS)
        if of_photos:
            raise ValueError(
                f"{of_photos[0]} is for a training on photos, and an adapter learns from vectors; remove it"
            )
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


Trained = Softmax | Contrastive | Triplet | ArcFace | SimCLR | CLIP | MetricLoss | Adapter
Objective = Annotated[NoObjective | Trained, Field(discriminator="name")]


def settings_of(defaults: Train, row: Train) -> Train:
    """The training loop's settings for a row, `augmentation` included.

    Args:
        defaults: the section `train` of params.yaml, where what it leaves out is the class's default.
        row: the row's objective; only what params.yaml sets in it counts.
    """
    own = row.model_dump(include=set(Train.model_fields), exclude_unset=True)
    augmentation = {**defaults.augmentation.model_dump(), **own.get("augmentation", {})}
    return Train(**{**defaults.model_dump(), **own, "augmentation": augmentation})
