"""Memory and time of a training step: LoRA against the whole network, ViT-B/16 with random weights.

Run: python -m benchmarks.lora [--batch N] [--steps N] [--turns N]
Takes about 4 minutes on two cores.
Each turn runs both in fresh processes, one after the other, on the same images. Memory is the peak of a
process (resident), and also given less what it held once its libraries were imported. The first step warms up
and is not timed. A turn's figure is the median of its steps; the result is the median of the turns.
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
import json, statistics, sys, time
import torch
from lineup import machine
from lineup.encoders import libraries
from lineup.encoders.encoder import Encoder
from lineup.objectives import arcface
from lineup.objectives.objective import Context
from lineup.settings import params, training
from lineup.settings.encoder import EncoderSettings
from lineup.settings.trained_objectives import ArcFace
from lineup.training import pixel_scaling
from lineup.training.trainer import Trainer
from lineup.training.weights import lora

which, batch, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
import peft
library = libraries.library("timm")
torch.manual_seed(0)
imported = machine.peak_memory_mb()
spec = EncoderSettings(library="timm", name="vit_base_patch16_224", weights="none", allow_random=True)
fetched = library.fetch(spec)
encoder = Encoder(fetched.module, library.transform(fetched.config), fetched.config)
if which == "lora":
    lora.add(encoder, training.Lora(), 0)
row = ArcFace(name="arcface")
context = Context(encoder.dim, tuple(map(str, range(32))), encoder.config, None)
settings = training.Train(device="cpu")
objective = arcface.build(row, context)
scaling = pixel_scaling.infer_scaling(encoder, None)
trainer = Trainer(encoder.module, encoder.module, objective, settings, scaling)
trainer.train_mode()
trainer.set_learning_rate(1, 10)
images = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8)
labels = torch.arange(batch) % 32
seconds = []
for _ in range(steps + 1):
    started = time.perf_counter()
    trainer.step(images, labels)
    seconds.append(time.perf_counter() - started)
trained = sum(p.numel() for p in encoder.module.parameters() if p.requires_grad)
peak = machine.peak_memory_mb()
print(json.dumps({"seconds": statistics.median(seconds[1:]), "peak_mb": peak, "own_mb": peak - imported,
                  "trained": trained}))
"""


def measure(which: str, batch: int, steps: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, which, str(batch), str(steps)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = command.parser("lora")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine.cpu_name()}, {machine.threads()} threads; load {os.getloadavg()[0]:.1f} at the start")
    turns = [
        {which: measure(which, options.batch, options.steps) for which in ("whole", "lora")}
        for _ in range(options.turns)
    ]
    for which in ("whole", "lora"):
        median = {name: statistics.median(turn[which][name] for turn in turns) for name in turns[0][which]}
        print(
            f"{which:<6} {median['trained']:>12,.0f} numbers trained, {median['seconds']:6.2f} s a step, "
            f"peak {median['peak_mb']:6,.0f} MB, {median['own_mb']:6,.0f} MB without the libraries"
        )
    for name in ("seconds", "peak_mb", "own_mb"):
        ratios = [turn["lora"][name] / turn["whole"][name] for turn in turns]
        print(f"lora / whole, {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    cli.run(main)
