"""The settings of the training loop: the section `train` of params.yaml, and what a row has of its own.

A setting, such as `epochs`, may come from three places. The first that has it counts:

1. the row's `objective` in params.yaml, for this row alone;
2. the section `train` of params.yaml, for every row;
3. the default of the class `Train`.

`settings_of` puts them together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineup.settings.schema import Strict

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


def settings_of(defaults: Train, row: Train) -> Train:
    """The training loop's settings for a row, `augmentation` included.

    Args:
        defaults: the section `train` of params.yaml, where what it leaves out is the class's default.
        row: the row's objective; only what params.yaml sets in it counts.
    """
    own = row.model_dump(include=set(Train.model_fields), exclude_unset=True)
    augmentation = {**defaults.augmentation.model_dump(), **own.get("augmentation", {})}
    return Train(**{**defaults.model_dump(), **own, "augmentation": augmentation})
