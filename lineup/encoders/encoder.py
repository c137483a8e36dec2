"""What the file of an encoder library offers, and what it hands over.

An encoder is a network that maps an image to a vector. The file of a library (`torchvision.py`, `timm.py`,
...) is a `Library`; `libraries.library` imports it by its name. A library whose checkpoints have a text tower
is a `TextLibrary`. An encoder on disk is a folder (`encoder_folder.py`) that is loaded without network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from PIL import Image
from torch import nn

from lineup.encoders.encoder_config import EncoderConfig
from lineup.settings.encoder import EncoderSettings

Transform = Callable[[Image.Image], torch.Tensor]  # upright RGB image -> float32 [3, H, W]
Tokens: TypeAlias = torch.Tensor | Mapping[str, torch.Tensor]  # [N, L], or several such by name
Tokenizer = Callable[[list[str]], Tokens]


@dataclass(frozen=True)
class Fetched:
    """What a library hands over: the network with its weights, and the config that rebuilds it.

    Attributes:
        module: float32 [B, 3, H, W] -> [B, D].
        text: a dual encoder's text tower, None where there is none.
        files: content of what the tokenizer needs, by its path in the encoder's folder.
    """

    module: nn.Module
    config: EncoderConfig
    text: nn.Module | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """A network ready to use; module: float32 [B, 3, H, W] -> [B, D]."""

    module: nn.Module
    transform: Transform
    config: EncoderConfig

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.config.dim


@dataclass(frozen=True)
class TextEncoder:
    """A text tower ready to use; module(tokenize(texts)): float32 [N, D], comparable with image vectors."""

    module: nn.Module
    tokenize: Tokenizer
    config: EncoderConfig


class Library(Protocol):
    """What the file of a library offers. All errors that a row can cause are UserErrors."""

    def fetch(self, spec: EncoderSettings) -> Fetched:
        """The encoder that a row of params.yaml names; the only function that may use the network."""
        ...

    def build(self, config: EncoderConfig) -> nn.Module:
        """The network without weights: float32 [B, 3, H, W] -> [B, D]."""
        ...

    def transform(self, config: EncoderConfig) -> Transform:
        """How the checkpoint's photos were prepared. It follows from `config.transform` alone."""
        ...


class TextLibrary(Library, Protocol):
    """What the file of a library offers whose checkpoints may have a text tower."""

    def build_text(self, config: EncoderConfig) -> nn.Module:
        """The text tower without weights: what the tokenizer gives -> [N, D]."""
        ...

    def tokenizer(self, config: EncoderConfig, folder: Path) -> Tokenizer:
        """The tokenizer that `fetch` handed over as files; folder: the encoder's."""
        ...
