"""A training as Lineup runs it against a bare loop of forward, backward and step on tensors in memory.

Run: python -m benchmarks.training [--steps N] [--turns N] [--freeze LAYERS]
Takes about 4 minutes on two cores.
MobileNetV2 at 96 px with random weights, ArcFace, 64 images a step, on made photos. Lineup's epoch varies its
images, validates itself on a tenth as many photos as there are to train on, and writes its checkpoint; its
parts are timed one by one. Each turn runs both in fresh processes, one after the other. The first steps warm
up and are not timed. On a busy machine, the processor's time says more than the seconds. With --freeze,
Lineup's first layers keep their weights; the bare loop trains all.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks import command
from lineup import cli, machine

_TRAIN = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
import torch
from tqdm import tqdm
from lineup.encoders import libraries
from lineup.encoders.encoder import Encoder
from lineup.objectives import arcface
from lineup.objectives.objective import Context
from lineup.settings import params, training
from lineup.settings.encoder import EncoderSettings
from lineup.settings.trained_objectives import ArcFace
from lineup.training import allocation, checkpoint, decoded_images, epochs, pixel_scaling, validation
from lineup.training.augmentation import Augment
from lineup.training.batches import Sampling
from lineup.training.best_weights import BestWeights
from lineup.training.progress import Progress
from lineup.training.deadline import Deadline
from lineup.training.trainer import Trainer

which, (steps, freeze) = sys.argv[1], map(int, sys.argv[2:])
warm_up, labels, side = 3, 800, 96
rng = np.random.default_rng(0)
library = libraries.library("torchvision")
torch.manual_seed(0)
spec = EncoderSettings(
    library="torchvision", name="mobilenet_v2", weights="none", allow_random=True, image_size=side
)
fetched = library.fetch(spec)
encoder = Encoder(fetched.module, library.transform(fetched.config), fetched.config)

def clock():
    return np.array([time.perf_counter(), time.process_time()])

def bare():
    module = encoder.module.train().to(memory_format=torch.channels_last)
    classes = torch.nn.Linear(encoder.dim, labels)
    optimiser = torch.optim.AdamW([*module.parameters(), *classes.parameters()], lr=1e-3, fused=True)
    images = torch.randn(64, 3, side, side).to(memory_format=torch.channels_last)
    wanted = torch.arange(64)
    for step in range(warm_up + steps):
        if step == warm_up:
            started = clock()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(classes(module(images)), wanted).backward()
        optimiser.step()
    return {"all": clock() - started}

def lineup():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    allocation.keep_freed_memory()
    settings = training.Train(device="cpu", epochs=2, images_per_epoch=64 * steps, freeze=freeze)
    context = Context(encoder.dim, tuple(map(str, range(labels))), encoder.config, None)
    objective = arcface.build(ArcFace(name="arcface", class_vectors="random"), context)
    scaling = pixel_scaling.infer_scaling(encoder, None)
    trainer = Trainer(encoder.module, encoder.module, objective, settings, scaling)
    stored, held = 111, 64 * steps // 10
    coarse = rng.integers(0, 256, (labels * 4, 3, 14, 14), dtype=np.uint8)
    pixels = decoded_images.Pixels(
        coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :stored, :stored].copy(),
        rng.standard_normal((held, 3, side, side), dtype=np.float32),
    )
    sampling = Sampling(np.repeat(np.arange(labels), 4), labels * 4, settings, 0)
    held_out = validation.HeldOut(np.arange(held) // 4, True)
    inputs = epochs.Inputs(pixels, sampling, 1, held_out)
    parts = {name: np.zeros(2) for name in ("augmentation", "step", "validation", "checkpoint")}

    def timed(owner, function, part):
        inner = getattr(owner, function)
        def outer(*arguments, **named):
            started = clock()
            try:
                return inner(*arguments, **named)
            finally:
                parts[part] += clock() - started
        setattr(owner, function, outer)

    timed(Augment, "batch", "augmentation")
    timed(Trainer, "step", "step")
    timed(epochs, "retrieval_score", "validation")
    timed(checkpoint, "save", "checkpoint")
    trainer.train_mode()
    warm = torch.zeros(64, 3, side, side, dtype=torch.uint8), torch.arange(64)
    trainer.set_learning_rate(0, 2 * steps)
    for _ in range(warm_up):
        trainer.step(*warm)
    for spent in parts.values():
        spent[:] = 0
    progress = Progress()
    best = BestWeights(progress, True)
    with tempfile.TemporaryDirectory() as folder, tqdm(disable=True) as bar:
        started = clock()
        epochs._train_epoch(1, trainer, progress, best, inputs, Deadline(1e9), bar)
        progress.epoch = 1
        epochs._save(Path(folder), trainer, progress, best)
        return {"all": clock() - started, **parts}

spent = {name: (value / steps).tolist() for name, value in (bare if which == "bare" else lineup)().items()}
print(json.dumps(spent))
"""


def measure(which: str, steps: int, freeze: int) -> dict[str, list[float]]:
    """Seconds and processor seconds per step, of each part and of all."""
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, which, str(steps), str(freeze)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = command.parser("training")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--freeze", type=int, default=0)
    options = parser.parse_args()
    print(f"{machine.cpu_name()}, {machine.threads()} threads; load {os.getloadavg()[0]:.1f} at the start")
    turns = [
        {which: measure(which, options.steps, options.freeze) for which in ("bare", "lineup")}
        for _ in range(options.turns)
    ]
    for which in ("bare", "lineup"):
        for part in turns[0][which]:
            wall, processor = (
                statistics.median(turn[which][part][clock] for turn in turns) * 1e3 for clock in (0, 1)
            )
            print(f"{which:<7} {part:<13} {wall:6.0f} ms a step, {processor:6.0f} ms of the processor")
    for number, clock in enumerate(("time", "processor's time")):
        ratios = [turn["bare"]["all"][number] / turn["lineup"]["all"][number] for turn in turns]
        print(
            f"of the bare loop's speed, by {clock}: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )
        shares = [turn["lineup"]["step"][number] / turn["lineup"]["all"][number] for turn in turns]
        print(f"share of its steps in all, by {clock}: {statistics.median(shares):.2f}")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    cli.run(main)
