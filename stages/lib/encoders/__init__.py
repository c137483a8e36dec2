"""Encoders: networks that map an image to a vector, one library per file.

A library's file (`torchvision.py`, `timm.py`, ...) is found by its name and offers three functions:

    fetch(spec: params.Encoder) -> Fetched        the network with its weights, and all facts needed to rebuild it
    build(facts: dict) -> nn.Module               the network without weights: float32 [B, 3, H, W] -> [B, D]
    transform(facts: dict) -> Transform           upright RGB image -> float32 [3, H, W], as the checkpoint was trained

An encoder on disk is a folder of `model.safetensors` and `encoder.json` (the facts); it needs no network.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from stages.lib import tables
from stages.lib.errors import UserError

Transform = Callable[[Image.Image], torch.Tensor]
WEIGHTS_FILE, FACTS_FILE = "model.safetensors", "encoder.json"


@dataclass(frozen=True)
class Fetched:
    """What a library hands over: the network with weights, and JSON facts to rebuild it (`build`, `transform`)."""

    module: nn.Module
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """A network ready to use: module: float32 [B, 3, H, W] -> [B, D]; transform: RGB image -> float32 [3, H, W]."""

    module: nn.Module
    transform: Transform
    facts: dict[str, Any]

    @property
    def dim(self) -> int:
        return self.facts["dim"]


def library(name: str) -> ModuleType:
    return importlib.import_module(f"stages.lib.encoders.{name}")


def save(folder: Path, module: nn.Module, facts: dict[str, Any]) -> None:
    """Writes both files; facts gain `weights_sha256` (of model.safetensors) and `parameters`."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        file = temporary / WEIGHTS_FILE
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        parameters = sum(p.numel() for p in module.parameters())
        tables.write_json(temporary / FACTS_FILE, {**facts, "weights_sha256": digest, "parameters": parameters})

    tables.replace_atomically(folder, write)


def load(folder: Path) -> Encoder:
    """The encoder of a folder that `save` wrote, in eval mode, on the CPU.

    `facts["head"]`, if there, is `{"dim": D}`: a linear embedding head that fine-tuning put behind the network.
    """
    facts = tables.read_json(folder / FACTS_FILE)
    own = library(facts["library"])
    module = own.build(facts)
    if "head" in facts:
        module = with_head(module, facts["head"]["in_dim"], facts["head"]["dim"])
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=True, assign=True)
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(f"{folder}: {WEIGHTS_FILE} doesn't fit {FACTS_FILE} ({error}); run `dvc repro -f` for this row's fetch") from None
    return Encoder(module.eval(), own.transform(facts), facts)


def with_head(backbone: nn.Module, in_dim: int, dim: int) -> nn.Module:
    """backbone: [B, 3, H, W] -> [B, in_dim]; the result maps to [B, dim]."""
    return nn.Sequential(backbone, nn.Linear(in_dim, dim))
