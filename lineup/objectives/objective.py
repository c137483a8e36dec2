"""Objectives: what an encoder is fine-tuned with, one per file.

An objective's file is found by its name (`arcface.py`) and offers:

    PACKAGES                                 whose versions decide what is learned, torch aside
    build(settings, context) -> nn.Module    forward(vectors float32 [B, D], labels int64 [B]) -> loss, a
    scalar

Its own weights (class vectors, a projection, a text tower) are trained along and dropped afterwards. A
network among them that isn't new is its attribute `pretrained`, and learns as slowly as the encoder. One that
starts from what the encoder knows has a method `imprint(centres)`, called once before the first epoch with
every label's mean direction, float32 [classes, D].
Its settings class in `training_params.py` has a property `needs`: what a batch must hold.
`none.py` trains nothing and imports no torch, so this file doesn't either.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lineup.encoders.encoder_config import EncoderConfig


@dataclass(frozen=True)
class Context:
    """What an objective may build on.

    dim: D of the vectors; labels: the names that the loss's integer labels index; facts: of the encoder;
    folder: the encoder's own, where a text tower may lie.
    """

    dim: int
    labels: tuple[str, ...]
    facts: EncoderConfig
    folder: Any


def objective(name: str) -> ModuleType:
    return importlib.import_module(f"lineup.objectives.{name}")
