"""Peak memory of preprocess with 2,000 and with 20,000 images; the ratio should be near 1.

Run: python -m benchmarks.preprocess_memory [--counts 2000 20000 100000]
Takes about 3 minutes on two cores. 100,000 images take some minutes more, and 4 GB of the temporary folder.
Memory is the proportional set size (shared pages are counted once) of the stage and its worker processes,
sampled every 50 ms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import yaml
from PIL import Image

from benchmarks import command
from lineup import cli

ROOT = Path(__file__).resolve().parent.parent
SIDE_PX = 96  # of noise, which does not compress: a file has 27 kB, and 7 kB at half the side


def lay_out(folder: Path, count: int) -> None:
    """Writes `count` images, a tenth of them queries.

    Every second one is larger than shorter_side_px, so that preprocess shrinks it.
    """
    random = np.random.default_rng(0)
    for number in range(count):
        side = SIDE_PX // (1 + number % 2)
        split = "query" if number % 10 == 0 else "gallery"
        file = folder / "data/raw/test" / split / f"label {number % 100}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(file, compress_level=1)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings |= {
        "models": {"mobilenet_v2": settings["models"]["mobilenet_v2"]},
        "refinements": {},
    }  # there are no photos to train on
    settings["preprocess"]["shorter_side_px"] = SIDE_PX // 2
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def peak_bytes(folder: Path) -> tuple[int, float]:
    """Runs the stage once. Returns its peak memory and its seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began, peak = time.monotonic(), 0
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.preprocess"], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    )
    while stage.poll() is None:
        peak = max(peak, _family_bytes(stage.pid))
        time.sleep(0.05)
    if stage.returncode:
        raise SystemExit(f"preprocess ended with {stage.returncode}")
    return peak, time.monotonic() - began


def _family_bytes(pid: int) -> int:
    total = 0
    try:
        for process in (parent := psutil.Process(pid), *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # a process has ended in the meantime
        pass
    return total


def main() -> None:
    parser = command.parser("preprocess_memory")
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 20_000], metavar="IMAGES")
    counts = sorted(parser.parse_args().counts)
    peaks = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), count)
            for run in ("first", "again"):
                peaks[count, run], seconds = peak_bytes(Path(name))
                print(
                    f"{count:7,} images, {run}: peak {peaks[count, run] / 2**20:.0f} MB, {seconds:.1f} s",
                    flush=True,
                )
    for fewer, more in pairwise(counts):
        for run in ("first", "again"):
            memory = peaks[more, run] / peaks[fewer, run]
            print(f"ratio, {run}: {memory:.2f} for {more / fewer:g} times the images")


if __name__ == "__main__":
    cli.run(main)
