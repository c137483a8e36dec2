"""A training from its settings to its result, for every objective.

The same settings, seed, images and machine give the same weights, whether or not the training was
interrupted: it resumes after the last epoch that it trained to the end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig
from lineup.objectives.objective import Context, load_objective
from lineup.settings.objective import Trained
from lineup.settings.training import Train
from lineup.training import checkpoint as checkpoints
from lineup.training import data, decoded_images, network, pixel_scaling
from lineup.training.batches import Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.deadline import Deadline
from lineup.training.device import device_name
from lineup.training.epochs import Inputs, train_epochs
from lineup.training.notes import note
from lineup.training.progress import Outcome, Progress
from lineup.training.trainer import Trainer
from lineup.training.validation import HeldOut

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """Where a training reads its inputs and saves its state.

    Args:
        encoder: the fetched encoder.
        images: the prepared shards of the training images.
        checkpoint: for this training alone.
    """

    encoder: Path
    images: Path
    checkpoint: Path


@dataclass(frozen=True)
class Result(Outcome):
    """A training that has ended.

    Args:
        module: the network with its best weights, on the CPU.
        config: the encoder's configuration, without its text tower.
    """

    module: nn.Module
    config: EncoderConfig


def train(
    row: Trained,
    settings: Train,
    encoder: Encoder,
    manifest: data.Manifest,
    folders: Folders,
    seed: int,
    deadline: Deadline,
) -> Result:
    """Fine-tunes an encoder with a row's objective, from its checkpoint if there is one.

    Args:
        row: the objective.
        settings: the training loop's, for this row.
        encoder: the fetched one; it is changed.
        manifest: the training images.
        folders: where they are, and where checkpoints go.
        seed: of every random number.
        deadline: when the training has to stop.
    Raises:
        UserError: data, settings and encoder don't go together, or the loss is infinite or no number.
    """
    parts = data.split(manifest, settings, row.needs, seed)
    _make_deterministic(seed)
    module, config = network.add_head(encoder, settings.dim)
    scaling = pixel_scaling.infer_scaling(encoder, settings.image_size)
    context = Context(config.dim, parts.names, config, folders.encoder)
    objective = load_objective(row.name).build(row, context)
    held_out = HeldOut(manifest.labels[parts.validation], row.needs.labels)
    trainer = Trainer(module, encoder.module, objective, settings, scaling)
    progress, best = _resume(folders.checkpoint, trainer, held_out)
    stopped = False
    if not progress.finished:
        pixels = decoded_images.decode(
            folders.images,
            manifest,
            parts,
            encoder.transform,
            scaling.size,
            settings.memory_mb,
            folders.checkpoint,
        )
        sampling = Sampling(parts.labels, len(parts.train), settings, seed)
        inputs = Inputs(pixels, sampling, row.needs.views, held_out)
        stopped = train_epochs(trainer, progress, best, inputs, deadline, folders.checkpoint)
    # The text tower stays behind: its vectors no longer match those of the trained network.
    return Result(
        module=trainer.finish(best.tensors),
        config=config.without_text(),
        progress=progress,
        note=note(progress, settings, stopped, held_out.fault),
        device=device_name(trainer.device),
    )


def _make_deterministic(seed: int) -> None:
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _resume(folder: Path, trainer: Trainer, held_out: HeldOut) -> tuple[Progress, BestWeights]:
    """The state of the last epoch that was trained to its end, or that of a new training."""
    saved = checkpoints.load(folder)
    if saved is None:
        progress = Progress()
        return progress, BestWeights(progress, held_out.may_choose)
    progress, state = saved
    if not progress.finished:
        trainer.load_state(state, progress.scaler)
        log.info("resumes after epoch %d of %d", progress.epoch, trainer.settings.epochs)
    return progress, BestWeights(progress, held_out.may_choose, state["best"])
