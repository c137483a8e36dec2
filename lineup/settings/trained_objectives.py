"""The settings of the objectives that train a whole encoder: a class each.

A class holds what its objective can be set to, the defaults, and what a batch must hold. The settings of the
training loop (lineup/settings/training.py) are its base, so that a row may override them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from lineup.settings.training import Positive, Train


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


class TrainedObjective(Train):
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
        """Labels, and nothing else."""
        return Needs()


class Softmax(TrainedObjective):
    """Classification into the training labels; the classifier is dropped after training."""

    name: Literal["softmax"]
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="where it is set, cosines divided by it are classified instead of dot products",
    )
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class Contrastive(TrainedObjective):
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


class Triplet(TrainedObjective):
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


class ArcFace(TrainedObjective):
    """ArcFace: softmax over cosines with an additive angular margin."""

    name: Literal["arcface"]
    margin: float = Field(default=0.5, ge=0, lt=3.14159, description="radians")
    scale: Positive = 64.0
    class_vectors: Literal["imprinted", "random"] = Field(
        default="imprinted",
        description="where a label's vector starts: at the mean of its images, or at random",
    )


class SimCLR(TrainedObjective):
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


class CLIP(TrainedObjective):
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
