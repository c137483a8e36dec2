"""The training of an adapter from a row's settings to its result.

The same settings, seed, vectors and machine give the same weights. A training takes seconds, so it writes no
checkpoints: one that was interrupted starts again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from lineup.adapters.epochs import train_epochs
from lineup.adapters.layers import Layers
from lineup.adapters.start import choose
from lineup.adapters.trainer import AdapterTrainer
from lineup.encoders.adapter import Adapter as AdapterNetwork
from lineup.encoders.adapter import Vectors
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.objectives.objective import Context, load_objective
from lineup.settings.adapter import Adapter
from lineup.settings.training import Train
from lineup.training import data
from lineup.training.batches import Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.deadline import Deadline
from lineup.training.device import choose_device, device_name
from lineup.training.notes import note
from lineup.training.progress import Outcome, Progress
from lineup.training.validation import HeldOut


@dataclass(frozen=True)
class Learned(Outcome):
    """An adapter that has been trained, with its best weights, on the CPU."""

    adapter: AdapterNetwork


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
    start = choose(learned_from, torch.from_numpy(parts.labels), validation, held_out, settings.dim)
    torch.manual_seed(seed)
    dim = len(start.matrix)
    layers = Layers(dim, row.layers)
    objective = load_objective(row.name).build(row, Context(dim, parts.names, config, None))
    training = AdapterTrainer(settings, layers, objective, start(learned_from).to(device), device)
    sampling = Sampling(parts.labels, len(parts.train), settings, seed)
    progress = Progress()
    best = BestWeights(progress, held_out.may_choose)
    stopped = train_epochs(training, progress, best, sampling, held_out, start(validation).numpy(), deadline)
    return Learned(
        adapter=training.finish(best).after(start),
        progress=progress,
        note=note(progress, settings, stopped, held_out.fault),
        device=device_name(device),
    )
