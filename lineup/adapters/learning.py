"""The training of an adapter from a row's settings to its result.

The same settings, seed, vectors and machine give the same weights. A training takes seconds, so it writes no
checkpoints: one that was interrupted starts again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lineup.adapters import whitening
from lineup.adapters.whitening import LabelStatistics, Start
from lineup.encoders.adapter import Adapter as AdapterNetwork
from lineup.encoders.adapter import Vectors, linear
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.objectives.objective import Context, Objective, load_objective
from lineup.settings.adapter import Adapter
from lineup.settings.training import Train
from lineup.training import data, network
from lineup.training.batches import Plan, Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.deadline import Deadline
from lineup.training.device import choose_device, device_name
from lineup.training.notes import log_epoch, log_images_never_drawn, note, warn_if_validation_cannot_choose
from lineup.training.progress import Epoch, Outcome, Progress
from lineup.training.validation import PERFECT_SCORE, HeldOut, retrieval_score

_SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
_PARTS_OF_DIM = (1, 2, 4, 8)  # a smaller vector is chosen only if it is better
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned(Outcome):
    """An adapter that has been trained, with its best weights, on the CPU."""

    adapter: AdapterNetwork


class _Change(nn.Module):
    """A weight matrix as its start plus a change, so that weight decay pulls it back to its start.

    Source: Li, Grandvalet & Davoine, ICML 2018 (L2-SP).
    """

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.start = nn.Buffer(start)
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The matrix. `parametrize` passes the one it started from."""
        return self.start + self.change


def train(
    row: Adapter,
    settings: Train,
    vectors: Vectors,
    manifest: data.Manifest,
    config: EncoderConfig,
    seed: int,
    deadline: Deadline,
) -> Learned:
    """Learns an adapter with a row's loss.

    Args:
        row: the objective.
        settings: the training loop's, for this row.
        vectors: float32 [N, D], of the training images, in the order of the manifest.
        manifest: the training images.
        config: of the encoder that the vectors are of.
        seed: of every random number.
        deadline: when the training has to stop.
    Raises:
        UserError: data, settings and encoder don't go together, or the loss is infinite or no number.
    """
    if settings.dim is not None and settings.dim > config.dim:
        raise UserError(
            f"dim is {settings.dim}, but the encoder's vectors have {config.dim} numbers; "
            f"set dim to {config.dim} or less, or leave it out"
        )
    parts = data.split(manifest, settings, row.needs, seed)
    assert parts.labels is not None
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = choose_device(settings.device)
    unit = functional.normalize(torch.from_numpy(vectors))
    held_out = HeldOut(manifest.labels[parts.validation], may_choose=True)
    learned_from, validation = unit[parts.train], unit[parts.validation]
    start = choose_start(learned_from, torch.from_numpy(parts.labels), validation, held_out, settings.dim)
    torch.manual_seed(seed)
    dim = len(start.matrix)
    layers = _Layers(dim, row.layers)
    objective = load_objective(row.name).build(row, Context(dim, parts.names, config, None))
    training = _Training(settings, layers, objective, start(learned_from).to(device), device)
    sampling = Sampling(parts.labels, len(parts.train), settings, seed)
    progress = Progress()
    best = BestWeights(progress, held_out.may_choose)
    stopped = _train_epochs(training, progress, best, sampling, held_out, start(validation).numpy(), deadline)
    return Learned(
        adapter=training.finish(best).after(start),
        progress=progress,
        note=note(progress, settings, stopped, held_out.fault),
        device=device_name(device),
    )


def choose_start(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    validation: torch.Tensor,
    held_out: HeldOut,
    dim: int | None,
) -> Start:
    """Where an adapter starts: at the encoder or at a whitening, whichever is best for held-out labels.

    Args:
        vectors: float32 [N, D], of length 1, to learn the whitening from.
        labels: int64 [N].
        validation: float32 [M, D], of length 1.
        held_out: their labels.
        dim: at most D; None leaves it to the held-out labels, too.
    """

    def score(start: Start) -> float:
        images = start(validation)[:, :, None, None].numpy()
        value = retrieval_score(nn.Flatten(), images, held_out.labels, torch.device("cpu"))
        assert value is not None
        log.info("start: %s: map_at_r of held-out labels %.4f", start.name, value)
        return value

    encoder = whitening.none(vectors, dim or vectors.shape[1])
    if held_out.fault:
        return encoder
    statistics = LabelStatistics(vectors, labels)
    best = max((statistics.whitening(shrinkage) for shrinkage in _SHRINKAGES), key=score)
    dims = [dim] if dim else [vectors.shape[1] // part for part in _PARTS_OF_DIM]
    return max([encoder, *statistics.narrowed(best, dims)], key=score)


class _Layers(nn.Module):
    """The adapter after its start: (I + C) z, and with a second layer (I + C) z + V relu(U z).

    V starts at 0, so that untrained layers change nothing: [B, dim] -> [B, dim].
    """

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.direct = linear(torch.eye(dim))
        self.hidden = nn.Linear(dim, dim, bias=False) if layers == 2 else None
        self.out = linear(torch.zeros(dim, dim)) if layers == 2 else None

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        adapted = self.direct(vectors)
        if self.hidden is not None and self.out is not None:
            adapted = adapted + self.out(torch.relu(self.hidden(vectors)))
        return adapted

    def after(self, start: Start) -> AdapterNetwork:
        """The start and these layers as one adapter."""
        direct = self.direct.weight @ start.matrix
        if self.hidden is None or self.out is None:
            return AdapterNetwork(direct, start.mean)
        return AdapterNetwork(direct, start.mean, self.hidden.weight @ start.matrix, self.out.weight)


class _Training:
    """The layers of an adapter and all that a step of their training changes."""

    def __init__(
        self,
        settings: Train,
        adapter: _Layers,
        objective: Objective,
        vectors: torch.Tensor,
        device: torch.device,
    ) -> None:
        self.settings, self.adapter, self.objective = settings, adapter, objective
        self.vectors, self.device = vectors, device
        layers = [layer for layer in adapter.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            nn.utils.parametrize.register_parametrization(
                layer, "weight", _Change(layer.weight.detach().clone()), unsafe=True
            )
            layer.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]
        adapter.to(device)
        objective.loss.to(device).train()
        self.optimiser = network.optimiser(adapter, adapter, objective, settings)
        self.trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        # Validation takes images, [B, D, 1, 1] here.
        self.on_images = nn.Sequential(nn.Flatten(), adapter)

    def imprint(self, labels: torch.Tensor, count: int) -> None:
        """Starts the loss at the mean direction of each label's vectors; labels: int64 [N]."""
        if self.objective.imprint is None:
            return
        with torch.inference_mode():
            adapted = functional.normalize(self.adapter(self.vectors))
            centres = torch.zeros(count, adapted.shape[1], device=self.device)
            centres.index_add_(0, labels.to(self.device), adapted)
        self.objective.imprint(functional.normalize(centres))

    def step(self, rows: torch.Tensor, labels: torch.Tensor, rate: float) -> tuple[float, float]:
        """Trains on one batch, and returns the loss and the length of its gradient before it is clipped."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        loss = self.objective.loss(self.adapter(self.vectors[rows]), labels.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        length = nn.utils.clip_grad_norm_(self.trained, self.settings.max_gradient_norm)
        self.optimiser.step()
        return loss.item(), length.item()

    def finish(self, best: BestWeights) -> _Layers:
        """The layers with their best weights, plain and on the CPU."""
        self.on_images.load_state_dict(best.tensors)
        for layer in self.adapter.modules():
            if nn.utils.parametrize.is_parametrized(layer):
                nn.utils.parametrize.remove_parametrizations(layer, "weight")
        return self.adapter.cpu().eval().requires_grad_(False)


def _train_epochs(
    training: _Training,
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
        started, plan = time.monotonic(), sampling.epoch(number)
        steps = [*_steps(number, plan, training, deadline)]
        stopped = len(steps) < len(plan)
        progress.images += sum(len(rows) for rows, _ in plan[: len(steps)])
        progress.training_seconds += time.monotonic() - started
        if steps:
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
        if stopped:
            break
        progress.epoch = number
        if _out_of_patience(progress, settings.patience):
            break
    progress.seconds, progress.finished = deadline.seconds(), not stopped
    log_images_never_drawn(progress, sampling.count, stopped)
    return stopped


def _steps(epoch: int, plan: Plan, training: _Training, deadline: Deadline) -> Iterator[tuple[float, float]]:
    """Loss and length of the gradient of each step, until the deadline."""
    settings, count = training.settings, len(plan)
    training.adapter.train()
    for step, (rows, labels) in enumerate(plan):
        if deadline.has_passed():
            return
        rate = network.rate((epoch - 1) * count + step, settings.epochs * count, settings.warmup_share)
        loss, length = training.step(torch.from_numpy(rows), torch.from_numpy(labels), rate)
        if not loss < float("inf"):
            fix = f"lower learning_rate ({settings.learning_rate:g})"
            raise UserError(f"the loss is {loss} in epoch {epoch}, step {step + 1}; {fix}")
        yield loss, length


def _out_of_patience(progress: Progress, patience: int | None) -> bool:
    """As in the other trainings: too many epochs have passed since the first one with the best score."""
    scores = [epoch.map_at_r for epoch in progress.log if epoch.map_at_r is not None]
    if patience is None or not scores or scores[0] == PERFECT_SCORE:
        return False
    trained = scores[1:]
    return len(trained) - 1 - trained.index(max(trained)) >= patience
