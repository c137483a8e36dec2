"""preprocess, compared with loops that people write, on photos of 0.2, 1, 3 and 12 megapixels.

Run: python -m benchmarks.preprocess [FOLDER] [--photos N]     (of each size; default: 96)
Takes about 4 minutes on two cores.
The photos are put together from those of the folder, or from the two that the package scikit-learn has.
The ways take turns, and the ratios are those of one turn: the median, and the least and the largest.

lineup          the stage, in as many processes as there are cores: reads, decodes, hashes the file and its
                pixels (which find the same picture in another file format), shrinks the shorter side to
                512 px with Lanczos over all pixels, writes the manifest and the shards; its start and imports
                are in its seconds
plain loop      for each file: Image.open, convert("RGB"), resize to that size with Lanczos, save as JPEG 95;
                one process, no hashes
thumbnail loop  for each file: Image.open, thumbnail to the same size, save; it decodes a JPEG at a fraction
                of its size, so its pixels differ
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import PIL
import yaml
from PIL import Image

from benchmarks import command
from lineup import cli, machine
from tests.support import real_photos

ROOT = Path(__file__).resolve().parent.parent
PHOTOS_PER_SIZE, DIFFERENT_PHOTOS = 96, 8
RUNS = 5
SHORTER_SIDE_PX = 512


def lay_out(folder: Path, sources: list[Path], size: tuple[int, int], photos: int) -> list[Path]:
    files, chance = [], random.Random(0)
    for number in range(photos):
        file = folder / "data/raw/test" / ("gallery" if number % 4 else "query") / f"{number:03}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT_PHOTOS:
            file.write_bytes(real_photos.put_together(sources, *size, chance))
        else:  # other bytes, and the same work: anything may follow the end of a JPEG
            file.write_bytes(files[number % DIFFERENT_PHOTOS].read_bytes() + b"%d" % number)
        files.append(file)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings |= {
        "models": {"mobilenet_v2": settings["models"]["mobilenet_v2"]},
        "refinements": {},
    }  # there are no photos to train on
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return files


def stage(folder: Path) -> None:
    for written in ("data/prepared", ".cache"):
        shutil.rmtree(folder / written, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "stages.preprocess"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )


def plain(files: list[Path], out: Path) -> None:
    for file in files:
        image = Image.open(file).convert("RGB")
        scale = min(1, SHORTER_SIDE_PX / min(image.size))
        small = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        small.save(out / file.name, "JPEG", quality=95)


def thumbnail(files: list[Path], out: Path) -> None:
    for file in files:
        image = Image.open(file)
        scale = min(1, SHORTER_SIDE_PX / min(image.size))
        image.thumbnail((round(image.width * scale), round(image.height * scale)))
        image.convert("RGB").save(out / file.name, "JPEG", quality=95)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(sources: list[Path], megapixels: float, photos: int) -> None:
    """Measures all ways for one size of photos, and prints a line for each."""
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "out"
        out.mkdir()
        files = lay_out(folder, sources, real_photos.SIZES[megapixels], photos)
        ways: dict[str, Callable[[], None]] = {
            "lineup": lambda: stage(folder),
            "plain loop": lambda: plain(files, out),
            "thumbnail loop": lambda: thumbnail(files, out),
        }
        runs = [{way: seconds(work) for way, work in ways.items()} for _ in range(RUNS)]
    for way in ways:
        speed = photos / statistics.median(run[way] for run in runs)
        ratios = sorted(run[way] / run["lineup"] for run in runs)
        compared = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"{megapixels:>10} {way:15} {speed:8.1f} {compared:>20}", flush=True)


def main() -> None:
    parser = command.parser("preprocess")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=PHOTOS_PER_SIZE)
    asked = parser.parse_args()
    sources = real_photos.files(asked.folder)
    versions = f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}"
    print(f"{machine.cpu_name()}, {machine.threads()} processes, {versions}")
    print(f"{asked.photos} photos of each size, put together from {len(sources)}; {RUNS} runs")
    print("in the last column, lineup is so many times as fast\n")
    print(f"{'megapixels':>10} {'':15} {'images/s':>8} {'lineup is':>20}")
    for megapixels in real_photos.SIZES:
        compare(sources, megapixels, asked.photos)


if __name__ == "__main__":
    cli.run(main)
