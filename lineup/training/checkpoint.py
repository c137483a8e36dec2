"""The state of a training on disk, in one file: tensors as safetensors, the rest as JSON in its header;
nothing is pickled.

A checkpoint's folder is named after all that decides the training, so what lies there always fits. Its header
holds the SHA-256 of everything: a checkpoint that is damaged in any way counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lineup.storage import files

Tensors = dict[str, torch.Tensor]
_FILE = "checkpoint.safetensors"
_KEPT = 16  # results of finished trainings that wait for a stage that was killed before DVC noted it


@dataclass(frozen=True)
class Epoch:
    """A line of a training's log. epoch: 0 is the encoder before training, which has no loss; 2.4: the clock
    stopped the third.

    map_at_r: of the held-out images, None where there is nothing to tell; drawn: share of the training images
    that were in its batches; drawn_so_far: in those of all epochs up to it; idle: share of its steps without
    a loss or a gradient.
    """

    epoch: float
    loss: float | None
    map_at_r: float | None
    learning_rate: float
    drawn: float
    drawn_so_far: float
    idle: float
    seconds: float


@dataclass
class Progress:
    """How far a training is. epoch: the last whole one; finished: the epochs or the patience ran out."""

    epoch: int = 0
    seconds: float = 0.0
    images: int = 0
    training_seconds: float = 0.0
    best_epoch: float = 0
    finished: bool = False
    scaler: dict[str, Any] = field(default_factory=dict)
    log: list[Epoch] = field(default_factory=list)

    def score(self, epoch: float) -> float | None:
        """map_at_r of an epoch; None where it has none."""
        return next((entry.map_at_r for entry in self.log if entry.epoch == epoch), None)


def save(folder: Path, progress: Progress, parts: dict[str, Tensors]) -> None:
    """parts: {"module": state dict, "best": ..., "optimiser": ...}. The older checkpoint stays until this one
    is whole.
    """
    flat = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    told = json.dumps(asdict(progress))
    metadata = {"progress": told, "sha256": _digest(told, flat)}
    files.replace_atomically(folder / _FILE, lambda temporary: save_file(flat, temporary, metadata))


def load(folder: Path) -> tuple[Progress, dict[str, Tensors]] | None:
    """None where there is none, or a damaged one: a training can always begin again."""
    try:
        with safe_open(folder / _FILE, "pt") as file:
            metadata = file.metadata()
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        if metadata["sha256"] != _digest(metadata["progress"], flat):
            return None
        written = json.loads(metadata["progress"])
        progress = Progress(**{**written, "log": [Epoch(**entry) for entry in written["log"]]})
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    parts: dict[str, Tensors] = {}
    for key, tensor in flat.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return progress, parts


def _digest(progress: str, tensors: Tensors) -> str:
    """SHA-256, in hex, of the progress as it is written and of every tensor's name, type, shape and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(progress.encode())
    return digest.hexdigest()


def prune(cache: Path, current: Path) -> None:
    """Of all trainings' folders the newest few stay, and `current`."""
    others = (
        [folder for folder in cache.iterdir() if folder.is_dir() and folder != current]
        if cache.exists()
        else []
    )
    for folder in sorted(others, key=_written, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process prunes too
        return 0.0


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    state = optimiser.state_dict()["state"]
    return {f"{index}/{name}": tensor for index, entries in state.items() for name, tensor in entries.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        like = parameters[int(index)]
        # A moment lies in memory as its parameter does: the fused optimiser goes through both side by side.
        state.setdefault(int(index), {})[name] = (
            torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        )
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
