"""Peak memory of embed with 2,000 and with 20,000 images; the ratio should be near 1.

Run: python -m benchmarks.embed_memory [--counts 2000 20000 100000]
Takes about 3 minutes on two cores, and Linux; 100,000 images some minutes more and 3 GB of the temporary folder.
Random weights of a small network at 32 px: what is measured is the stage's memory, not a model. "again" reuses every vector.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml
from PIL import Image

from benchmarks import command
from lineup import cli, paths
from lineup.encoders import encoder_folder, libraries
from lineup.settings.params import Encoder
from lineup.storage import parquet, schemas

ROOT = Path(__file__).resolve().parent.parent

SIDE = 96  # pixels; noise, which does not compress: 27 kB a file
ENCODER = {
    "library": "torchvision",
    "name": "squeezenet1_1",
    "weights": "none",
    "allow_random": True,
    "image_size": 32,
}


def lay_out(folder: Path, count: int) -> None:
    """What preprocess and train leave: `count` prepared images, and an encoder."""
    random = np.random.default_rng(0)
    photos: dict[str, bytes] = {}
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(
            buffer, "PNG", compress_level=1
        )
        photos[hashlib.sha256(buffer.getvalue()).hexdigest()] = buffer.getvalue()
    ids = sorted(photos)
    parts = (ids[start : start + 500] for start in range(0, count, 500))
    batches = (
        pa.record_batch(
            [
                pa.array(part),
                pa.array(["gallery"] * len(part)),
                pa.nulls(len(part), pa.string()),
                pa.array([photos[i] for i in part]),
            ],
            schema=schemas.IMAGES,
        )
        for part in parts
    )
    parquet.write_shards(
        folder / paths.images("test"), schemas.IMAGES, batches, count, schemas.IMAGES_PER_SHARD
    )
    torch.manual_seed(0)
    fetched = libraries.library(ENCODER["library"]).fetch(Encoder.model_validate(ENCODER))
    encoder_folder.save(folder / paths.trained("a"), fetched.module, fetched.config)
    row = {"encoder": ENCODER, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": "flat"}}
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"embed": {"device": "cpu"}, "models": {"a": row}}), encoding="utf-8"
    )


# Not getrusage: its peak begins with that of the process that started this one.
_STAGE = """
from pathlib import Path
from stages import embed
embed.main(["--row", "a"])
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""


def peak_mb(folder: Path) -> tuple[float, float, int]:
    """Peak memory of one run in MB, its seconds, and how many vectors it computed."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _STAGE],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"embed ended with {done.returncode}\n{done.stderr}")
    computed = json.loads((folder / paths.costs("embed", "a")).read_text(encoding="utf-8"))["computed"]
    return float(done.stdout) * 1024 / 1e6, time.monotonic() - began, computed


def main() -> None:
    parser = command.parser("embed_memory")
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 20_000], metavar="IMAGES")
    counts = sorted(parser.parse_args().counts)
    peaks = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), count)
            for run in ("first", "again"):
                peaks[count, run], seconds, computed = peak_mb(Path(name))
                print(
                    f"{count:6,} images, {run}: peak {peaks[count, run]:.0f} MB, {seconds:.1f} s, {computed:,} computed",
                    flush=True,
                )
    for fewer, more in pairwise(counts):
        for run in ("first", "again"):
            print(
                f"ratio, {run}: {peaks[more, run] / peaks[fewer, run]:.2f} for {more / fewer:g} times the images"
            )


if __name__ == "__main__":
    cli.run(main)
