"""The state of a training on disk, in one file of safetensors, whose header holds the rest as JSON.

Nothing is pickled. The folder of a checkpoint is named by the fingerprint of all that decides the training,
so that a checkpoint always fits the training that loads it. The header holds the SHA-256 of everything: a
checkpoint that is damaged in any way counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lineup.storage import files

Tensors = dict[str, torch.Tensor]
_FILE = "checkpoint.safetensors"
# A stage may be killed after its training has finished and before DVC has stored the result. So the
# checkpoints of the latest trainings stay.
_MAX_OTHER_CHECKPOINTS = 16


@dataclass(frozen=True)
class Epoch:
    """A line of a training's log.

    Args:
        epoch: its number. 0 is the encoder before training, 2.4 the third epoch, cut short by the deadline.
        loss: the mean over the steps; None before training.
        map_at_r: the score of the held-out images, 0..1; None where they have none.
        learning_rate: that of the last step, for weights that are new.
        drawn: the share of the training images that the epoch's batches held.
        drawn_so_far: the share that the batches of all epochs held, up to and with this one.
        idle: the share of the steps whose loss or gradient was 0.
        seconds: how long the epoch took.
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
    """How far a training has come.

    Args:
        epoch: the last epoch that was trained to its end.
        seconds: how long the training has run, over all its interruptions.
        images: the images that its steps have held, each view counted.
        training_seconds: how long those steps took.
        best_epoch: the epoch whose weights are kept; 2.4 is the third one, cut short by the deadline.
        finished: whether all epochs are trained, or the patience has run out.
        scaler: the state dict of the gradients' scaler; empty unless the training computes in float16.
        log: the encoder before training, then each epoch.
    """

    epoch: int = 0
    seconds: float = 0.0
    images: int = 0
    training_seconds: float = 0.0
    best_epoch: float = 0
    finished: bool = False
    scaler: dict[str, float] = field(default_factory=dict)
    log: list[Epoch] = field(default_factory=list)

    def score(self, epoch: float) -> float | None:
        """The map_at_r of an epoch of the log; None where it has none."""
        return next((entry.map_at_r for entry in self.log if entry.epoch == epoch), None)


def save(folder: Path, progress: Progress, parts: dict[str, Tensors]) -> None:
    """Replaces the folder's checkpoint, once this one is complete.

    parts: tensors by their name, by the part of the training that they belong to ("module", "best", ...).
    """
    flat = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    progress_json = json.dumps(asdict(progress))
    metadata = {"progress": progress_json, "sha256": _digest(progress_json, flat)}
    files.replace_atomically(folder / _FILE, lambda temporary: save_file(flat, temporary, metadata))


def load(folder: Path) -> tuple[Progress, dict[str, Tensors]] | None:
    """The progress and the parts of the folder's checkpoint; None where there is none, or a damaged one."""
    try:
        with safe_open(folder / _FILE, "pt") as file:
            metadata = file.metadata()
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
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


def _digest(progress_json: str, tensors: Tensors) -> str:
    """SHA-256, in hex, of the progress as written, and of every tensor's name, type, shape and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(progress_json.encode())
    return digest.hexdigest()


def prune(cache: Path, current: Path) -> None:
    """Removes the checkpoints of all trainings in `cache` but for `current` and the latest few."""
    others = (
        [folder for folder in cache.iterdir() if folder.is_dir() and folder != current]
        if cache.exists()
        else []
    )
    for folder in sorted(others, key=_written, reverse=True)[_MAX_OTHER_CHECKPOINTS:]:
        shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has just removed it
        return 0.0


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The optimiser's state, each tensor named by its parameter's position and its own name: "3/exp_avg"."""
    state = optimiser.state_dict()["state"]
    return {f"{index}/{name}": tensor for index, entries in state.items() for name, tensor in entries.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Gives the optimiser the state that `optimiser_tensors` took; its settings stay."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        like = parameters[int(index)]
        # The fused optimiser needs a moment to have the memory layout of its parameter.
        state.setdefault(int(index), {})[name] = (
            torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        )
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
