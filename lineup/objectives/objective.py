"""The contract of an objective: what an encoder is fine-tuned with.

An objective is one file of this folder, and its name in params.yaml is the file's name: `arcface` is
`arcface.py`. The file offers what `ObjectiveFile` declares. The settings of an objective are a class in
`lineup/settings/trained_objectives.py`, whose property `needs` says what a batch must hold.

`none.py` is the exception: it trains nothing, and stages/train.py calls it before torch is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from lineup.encoders.encoder_config import EncoderConfig


@dataclass(frozen=True)
class Context:
    """What an objective can be built from besides its settings.

    Args:
        dim: D, the number of dimensions of the encoder's vectors.
        labels: the names of the training labels; the integer labels of a batch are positions in it.
        config: the encoder's record, as encoder.json has it.
        folder: the fetched encoder's folder, which may hold a text tower; None where there is no encoder.
    """

    dim: int
    labels: tuple[str, ...]
    config: EncoderConfig
    folder: Path | None


@dataclass(frozen=True)
class Objective:
    """An objective that is ready to train.

    Args:
        loss: forward(vectors float32 [B, D], labels int64 [B]) -> a scalar. Weights of its own (class
            vectors, a projection, a text tower) are trained along with the encoder and dropped afterwards.
        imprint: starts the loss from what the encoder knows already. It is called once, before the first
            epoch, with the mean direction of each label's images: float32 [labels, D]. None where the loss
            starts from random weights, or has none.
        pretrained: the part of `loss` that was trained before. It learns as slowly as the encoder, where all
            other weights of the loss are new. None where no part was.
    """

    loss: nn.Module
    imprint: Callable[[torch.Tensor], None] | None = None
    pretrained: nn.Module | None = None


class ObjectiveFile(Protocol):
    """What an objective's file offers.

    PACKAGES: the installed packages, besides torch, whose versions decide what is learned.
    """

    PACKAGES: tuple[str, ...]

    def build(self, settings: Any, context: Context) -> Objective:
        """The objective with the settings of its row, which are of its own settings class.

        Raises:
            UserError: the settings don't fit the objective.
        """
        ...


def load_objective(name: str) -> ObjectiveFile:
    """The file of the objective of this name, imported: it may need a library that nothing else needs."""
    return cast(ObjectiveFile, importlib.import_module(f"lineup.objectives.{name}"))


def objective_code(name: str) -> tuple[Path, ...]:
    """The files of this folder whose code decides what an objective teaches."""
    folder = Path(__file__).parent
    return Path(__file__), folder / f"{name}.py"
