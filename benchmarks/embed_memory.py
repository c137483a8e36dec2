"""Peak memory of embed with 2,000 and with 20,000 images; the ratio should be near 1.

Run: python -m benchmarks.embed_memory [--counts 2000 20000 100000]
Takes about 3 minutes on two cores, and needs Linux. 100,000 images take some minutes more, and 3 GB of the
temporary folder.
The network is small, at 32 px, with random weights: this measures the stage's memory, not a model. In the run
"again", every vector comes from the cache.
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
from lineup.settings.encoder import EncoderSettings
from lineup.storage import parquet, schemas

ROOT = Path(__file__).resolve().parent.parent

SIDE_PX = 96  # of noise, which does not compress: a file has 27 kB
ENCODER = {
    "library": "torchvision",
    "name": "squeezenet1_1",
    "weights": "none",
    "allow_random": True,
    "image_size": 32,
}


def lay_out(folder: Path, count: int) -> None:
    """Writes what preprocess and train write: `count` prepared images, and an encoder."""
    random = np.random.default_rng(0)
    photos: dict[str, bytes] = {}
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)).save(
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
    fetched = libraries.library(ENCODER["library"]).fetch(EncoderSettings.model_validate(ENCODER))
    encoder_folder.save(folder / paths.model("a"), fetched.module, fetched.config)
    row = {"encoder": ENCODER, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": "flat"}}
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"embed": {"device": "cpu"}, "models": {"a": row}}), encoding="utf-8"
    )


# Not getrusage: a process inherits the peak of the one that started it.
_STAGE = """
from pathlib import Path
from stages import embed
embed.main(["--row", "a"])
status = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


def peak_mb(folder: Path) -> tuple[float, float, int]:
    """Runs the stage once. Returns its peak memory in MB, its seconds, and the number of computed vectors."""
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
                measured = f"peak {peaks[count, run]:.0f} MB, {seconds:.1f} s, {computed:,} computed"
                print(f"{count:6,} images, {run}: {measured}", flush=True)
    for fewer, more in pairwise(counts):
        for run in ("first", "again"):
            memory = peaks[more, run] / peaks[fewer, run]
            print(f"ratio, {run}: {memory:.2f} for {more / fewer:g} times the images")


if __name__ == "__main__":
    cli.run(main)
