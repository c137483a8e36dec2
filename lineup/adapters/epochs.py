"""The loop over the epochs and steps of an adapter, until the epochs, the patience or the time run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from lineup.adapters.trainer import AdapterTrainer
from lineup.encoders.adapter import Vectors
from lineup.errors import UserError
from lineup.training import optimisation
from lineup.training.batches import Plan, Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.deadline import Deadline
from lineup.training.notes import log_epoch, log_images_never_drawn, warn_if_validation_cannot_choose
from lineup.training.patience import out_of_patience
from lineup.training.progress import Epoch, Progress
from lineup.training.validation import HeldOut, retrieval_score


def train_epochs(
    training: AdapterTrainer,
    progress: Progress,
    best: BestWeights,
    sampling: Sampling,
    held_out: HeldOut,
    validation: Vectors,
    deadline: Deadline,
) -> bool:
    """Trains all epochs, and returns whether the deadline stopped it; validation: float32 [M, D]."""
    settings, device = training.settings, training.device
    images = validation[:, :, None, None]

    def score() -> float | None:
        return retrieval_score(training.on_images, images, held_out.labels, device)

    assert sampling.labels is not None
    training.imprint(torch.from_numpy(sampling.labels), int(sampling.labels.max()) + 1)
    progress.log.append(Epoch(0, None, score(), 0.0, 0.0, 0.0, 0.0, deadline.seconds()))
    log_epoch(progress.log[0])
    warn_if_validation_cannot_choose(progress, settings, held_out)
    best.keep(0, training.on_images)  # A whitening may be better than any layers after it.
    stopped = False
    for number in range(1, settings.epochs + 1):
        stopped = _train_epoch(number, training, progress, best, sampling, score, deadline)
        if stopped:
            break
        progress.epoch = number
        if out_of_patience(progress, settings.patience, held_out):
            break
    progress.seconds, progress.finished = deadline.seconds(), not stopped
    log_images_never_drawn(progress, sampling.count, stopped)
    return stopped


def _train_epoch(
    number: int,
    training: AdapterTrainer,
    progress: Progress,
    best: BestWeights,
    sampling: Sampling,
    score: Callable[[], float | None],
    deadline: Deadline,
) -> bool:
    """Trains and validates one epoch, and returns whether the deadline stopped it."""
    started, plan = time.monotonic(), sampling.epoch(number)
    steps = [*_steps(number, plan, training, deadline)]
    stopped = len(steps) < len(plan)
    progress.images += sum(len(rows) for rows, _ in plan[: len(steps)])
    progress.training_seconds += time.monotonic() - started
    if not steps:
        return stopped
    drawn = len(np.unique(np.concatenate([rows for rows, _ in plan[: len(steps)]])))
    so_far = sampling.images_drawn((number - 1) * sampling.steps + len(steps))
    epoch = Epoch(
        epoch=round(number - 1 + len(steps) / len(plan), 6) if stopped else number,
        loss=sum(loss for loss, _ in steps) / len(steps),
        map_at_r=score(),
        learning_rate=training.optimiser.param_groups[-1]["lr"],
        drawn=drawn / sampling.count,
        drawn_so_far=so_far / sampling.count,
        idle=sum(loss == 0 or length == 0 for loss, length in steps) / len(steps),
        seconds=time.monotonic() - started,
    )
    best.offer(epoch, training.on_images, cut_short=stopped)
    progress.log.append(epoch)
    log_epoch(epoch)
    return stopped


def _steps(
    epoch: int, plan: Plan, training: AdapterTrainer, deadline: Deadline
) -> Iterator[tuple[float, float]]:
    """Loss and length of the gradient of each step, until the deadline."""
    settings, count = training.settings, len(plan)
    training.adapter.train()
    for step, (rows, labels) in enumerate(plan):
        if deadline.has_passed():
            return
        rate = optimisation.rate((epoch - 1) * count + step, settings.epochs * count, settings.warmup_share)
        loss, length = training.step(torch.from_numpy(rows), torch.from_numpy(labels), rate)
        if not loss < float("inf"):
            fix = f"lower learning_rate ({settings.learning_rate:g})"
            raise UserError(f"the loss is {loss} in epoch {epoch}, step {step + 1}; {fix}")
        yield loss, length
