"""The loop over epochs and steps, until the epochs, the patience or the time run out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from lineup import machine
from lineup.errors import UserError
from lineup.training import checkpoint as checkpoints
from lineup.training import decoded_images
from lineup.training.augmentation import Augment
from lineup.training.batches import Batches, Plan, Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.deadline import Deadline
from lineup.training.label_centres import label_centres
from lineup.training.notes import (
    log_epoch,
    log_images_never_drawn,
    warn_if_validation_cannot_choose,
)
from lineup.training.patience import out_of_patience
from lineup.training.progress import Epoch, Progress
from lineup.training.trainer import Trainer
from lineup.training.validation import HeldOut, retrieval_score


@dataclass(frozen=True)
class Inputs:
    """What a network is trained and validated on.

    Args:
        pixels: of the training images, in the order that `sampling` counts, and of those held out.
        sampling: which images an epoch draws.
        views: how many augmented copies of an image a batch holds.
        held_out: the images held out.
    """

    pixels: decoded_images.Pixels
    sampling: Sampling
    views: int
    held_out: HeldOut


class Pass(NamedTuple):
    """The steps of an epoch, as far as the deadline allowed them.

    Args:
        losses: of each step.
        idle: how many steps had a loss or a gradient of 0.
        images: how many images the steps held, each view counted.
        seconds: how long the steps took.
        stopped: whether the deadline ended them.
    """

    losses: list[float]
    idle: int
    images: int
    seconds: float
    stopped: bool


def train_epochs(
    trainer: Trainer,
    progress: Progress,
    best: BestWeights,
    inputs: Inputs,
    deadline: Deadline,
    checkpoint: Path,
) -> bool:
    """Trains all epochs that are left, and returns whether the deadline stopped it."""
    settings, steps = trainer.settings, inputs.sampling.steps
    deadline.add_earlier(progress.seconds)
    if not progress.log:
        _begin(trainer, progress, inputs, deadline)
    warn_if_validation_cannot_choose(progress, settings, inputs.held_out)
    stopped = False
    with tqdm(
        total=settings.epochs * steps,
        initial=progress.epoch * steps,
        unit="step",
        disable=None,
        desc="train",
        mininterval=1,
    ) as bar:
        for epoch in range(progress.epoch + 1, settings.epochs + 1):
            stopped = _train_epoch(epoch, trainer, progress, best, inputs, deadline, bar)
            if stopped:
                break
            progress.epoch, progress.seconds = epoch, deadline.seconds()
            ends_early = out_of_patience(progress, settings.patience, inputs.held_out)
            progress.finished = epoch == settings.epochs or ends_early
            _save(checkpoint, trainer, progress, best)
            if progress.finished:
                break
    if not progress.finished:
        progress.seconds = deadline.seconds()
    if not best.tensors:
        best.keep(0, trainer.trained)
    log_images_never_drawn(progress, inputs.sampling.count, stopped)
    return stopped


def _begin(trainer: Trainer, progress: Progress, inputs: Inputs, deadline: Deadline) -> None:
    """Imprints the objective, and puts the encoder before training into the log."""
    labels = inputs.sampling.labels
    if trainer.objective.imprint and labels is not None:
        centres = label_centres(trainer.module, inputs.pixels.train, labels, trainer.scaling)
        trainer.objective.imprint(centres)
    score = _score(trainer, inputs)
    start = Epoch(0, None, score, 0.0, 0.0, 0.0, 0.0, seconds=deadline.seconds())
    progress.log.append(start)
    log_epoch(start)


def _train_epoch(
    number: int,
    trainer: Trainer,
    progress: Progress,
    best: BestWeights,
    inputs: Inputs,
    deadline: Deadline,
    bar: tqdm,  # pyright: ignore[reportMissingTypeArgument]
) -> bool:
    """Trains and validates one epoch, and returns whether the deadline stopped it.

    An epoch that is cut short has its line in the log, and its weights may be the result of this run. No
    checkpoint holds it.
    """
    started, sampling = time.monotonic(), inputs.sampling
    plan = sampling.epoch(number)
    done = _run_steps(number, plan, trainer, inputs, deadline, bar)
    progress.images += done.images
    progress.training_seconds += done.seconds
    steps = len(done.losses)
    if not steps:
        return done.stopped
    drawn = len(np.unique(np.concatenate([images for images, _ in plan[:steps]])))
    drawn_so_far = sampling.images_drawn((number - 1) * sampling.steps + steps)
    epoch = Epoch(
        epoch=round(number - 1 + steps / sampling.steps, 6) if done.stopped else number,
        loss=sum(done.losses) / steps,
        map_at_r=_score(trainer, inputs),
        learning_rate=trainer.optimiser.param_groups[-1]["lr"],
        drawn=drawn / sampling.count,
        drawn_so_far=drawn_so_far / sampling.count,
        idle=done.idle / steps,
        seconds=time.monotonic() - started,
    )
    best.offer(epoch, trainer.trained, cut_short=done.stopped)
    progress.log.append(epoch)
    log_epoch(epoch)
    return done.stopped


def _run_steps(
    epoch: int,
    plan: Plan,
    trainer: Trainer,
    inputs: Inputs,
    deadline: Deadline,
    bar: tqdm,  # pyright: ignore[reportMissingTypeArgument]
) -> Pass:
    settings, seed, steps = trainer.settings, inputs.sampling.seed, len(plan)
    # Dropout draws from this seed: what a resumed training draws must not depend on earlier epochs.
    torch.manual_seed(seed + epoch)
    trainer.train_mode()
    augment = Augment(settings.augmentation, trainer.scaling.size)
    batches = Batches(inputs.pixels.train, plan, augment, inputs.views, (seed, epoch))
    # On a CPU the network needs all cores.
    workers = 0 if trainer.device.type == "cpu" else max(1, machine.threads() - 1)
    losses, idle, count, stopped, started = [], 0, 0, False, time.monotonic()
    for step, (images, labels) in enumerate(
        DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=workers > 0)
    ):
        if deadline.has_passed():
            stopped = True
            break
        trainer.set_learning_rate((epoch - 1) * steps + step, settings.epochs * steps)
        loss, gradient_norm = trainer.step(images, labels)
        if not loss < float("inf"):
            fix = f"lower learning_rate ({settings.learning_rate:g})"
            raise UserError(f"the loss is {loss} in epoch {epoch}, step {step + 1}; {fix}")
        losses.append(loss)
        idle += loss == 0 or gradient_norm == 0
        count += len(images)
        speed = count / (time.monotonic() - started)
        bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", images_per_s=f"{speed:.0f}")
        bar.update()
    return Pass(losses, idle, count, time.monotonic() - started, stopped)


def _score(trainer: Trainer, inputs: Inputs) -> float | None:
    """The map_at_r of the held-out images with the weights that would be kept now."""
    return retrieval_score(trainer.trained, inputs.pixels.validation, inputs.held_out.labels, trainer.device)


def _save(folder: Path, trainer: Trainer, progress: Progress, best: BestWeights) -> None:
    """A finished training needs no other state than its result."""
    progress.scaler = trainer.scaler.state_dict()
    state = {"best": best.tensors} | ({} if progress.finished else trainer.state())
    checkpoints.save(folder, progress, state)
