"""The state of a training on disk, in one file of safetensors, whose header holds the rest as JSON.

Nothing is pickled. The folder of a checkpoint is named by the fingerprint of all that decides the training,
so that a checkpoint always fits the training that loads it. The header holds the SHA-256 of everything: a
checkpoint that is damaged in any way counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lineup.storage import files
from lineup.training.progress import Epoch, Progress

Tensors = dict[str, torch.Tensor]
_FILE = "checkpoint.safetensors"
# A stage may be killed after its training has finished and before DVC has stored the result. So the
# checkpoints of the latest trainings stay.
_MAX_OTHER_CHECKPOINTS = 16


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
