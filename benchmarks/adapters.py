"""What ten adapter rows on one encoder take beyond embedding, as a ratio to embedding in the same run.

Run: python -m benchmarks.adapters [FOLDER]     (after `make demo`; FOLDER: a finished demo, else this one)
Takes about 5 minutes on two cores and 2 GB of memory. It works in a temporary folder.
"""

from benchmarks import command

if __name__ == "__main__":
    command.begin()

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml

from lineup import cli, paths
from lineup.errors import UserError

ROWS = 10
ENCODER_ROW = "mobilenet_v2"
LOSSES = ("MultiSimilarityLoss", "softmax", "contrastive", "triplet", "arcface")


def stage(name: str, row: str) -> float:
    """Runs a stage for a row, in this process, and returns its seconds."""
    import importlib

    start = time.perf_counter()
    importlib.import_module(f"stages.{name}").main(["--row", row])
    return time.perf_counter() - start


def main() -> None:
    project = Path(sys.argv[1] if sys.argv[1:] else ".").resolve()
    if (
        not (project / paths.weights(ENCODER_ROW)).is_dir()
        or not (project / paths.manifest("train")).exists()
    ):
        raise UserError(f"{project}: holds no finished demo; run `make demo`")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(project / "data/prepared", "data/prepared")
        settings = yaml.safe_load((project / paths.PARAMS).read_text(encoding="utf-8"))
        base = settings["models"][ENCODER_ROW]
        names = [f"adapter_{number}" for number in range(ROWS)]
        losses = {name: LOSSES[number % len(LOSSES)] for number, name in enumerate(names)}
        settings["models"] = {ENCODER_ROW: base} | {
            name: {
                **base,
                "objective": {"name": "adapter", "loss": loss, "epochs": 3, "labels_per_batch": 128},
            }
            for name, loss in losses.items()
        }
        settings |= {"refinements": {}, "near_copies": {"rows": []}}
        paths.PARAMS.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        for name in settings["models"]:
            shutil.copytree(project / paths.weights(ENCODER_ROW), paths.weights(name))
        stage("train", ENCODER_ROW)
        embedding = stage("embed", ENCODER_ROW) + stage("embed_train", ENCODER_ROW)
        adapting = sum(stage("train", name) + stage("embed", name) for name in names)
    print(f"embedding test and training photos once: {embedding:.1f} s")
    print(f"{ROWS} adapter rows beyond it: {adapting:.1f} s, {adapting / embedding:.2f} times as long")


if __name__ == "__main__":
    cli.run(main)
