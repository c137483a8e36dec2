"""preprocess, compared with loops that people write, on photos of 2, 6 and 12 megapixels that are made here.

Run: python -m benchmarks.preprocess [--photos N]     (of each size; default: 96)
Takes about 4 minutes on two cores.
The ways take turns, and medians count.

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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import yaml
from PIL import Image

from benchmarks import command
from lineup import cli, machine

ROOT = Path(__file__).resolve().parent.parent
SIZES = {2: (1632, 1224), 6: (2832, 2128), 12: (4000, 3000)}  # megapixels: width, height
PHOTOS_PER_SIZE = 96
RUNS = 3
SHORTER_SIDE_PX = 512


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Smooth shapes with texture; as a JPEG it takes about 0.24 bytes per pixel, as a phone's photo does."""
    random = np.random.default_rng(seed)
    shapes = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = Image.fromarray(random.integers(0, 30, (height // 2, width // 2), dtype=np.uint8)).resize(
        (width, height)
    )
    pixels = np.asarray(shapes, np.int16) + np.asarray(noise, np.int16)[:, :, None] - 15
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def lay_out(folder: Path, size: tuple[int, int], photos: int) -> list[Path]:
    files = []
    for number in range(photos):
        file = folder / "data/raw/test" / ("gallery" if number % 4 else "query") / f"{number:03}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number < 8:
            photo(*size, number).save(file, "JPEG", quality=90)
        else:  # other bytes, and the same work: anything may follow the end of a JPEG
            file.write_bytes(files[number % 8].read_bytes() + b"%d" % number)
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
        scale = SHORTER_SIDE_PX / min(image.size)
        small = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        small.save(out / file.name, "JPEG", quality=95)


def thumbnail(files: list[Path], out: Path) -> None:
    for file in files:
        image = Image.open(file)
        scale = SHORTER_SIDE_PX / min(image.size)
        image.thumbnail((round(image.width * scale), round(image.height * scale)))
        image.convert("RGB").save(out / file.name, "JPEG", quality=95)


def main() -> None:
    parser = command.parser("preprocess")
    parser.add_argument("--photos", type=int, default=PHOTOS_PER_SIZE)
    photos = parser.parse_args().photos
    versions = f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}"
    print(f"{machine.cpu_name()}, {machine.threads()} processes, {versions}")
    print(f"{photos} photos of each size; images/s, medians of {RUNS} runs")
    print("in brackets: lineup is so many times as fast\n")
    print(f"{'megapixels':>10} {'lineup':>8} {'plain loop':>18} {'thumbnail loop':>18}")
    for megapixels, size in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            folder, out = Path(name), Path(name) / "out"
            out.mkdir()
            files = lay_out(folder, size, photos)
            ways: dict[str, Callable[[], None]] = {
                "lineup": lambda folder=folder: stage(folder),
                "plain": lambda files=files, out=out: plain(files, out),
                "thumbnail": lambda files=files, out=out: thumbnail(files, out),
            }
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(RUNS):
                for way, work in ways.items():
                    start = time.perf_counter()
                    work()
                    seconds[way].append(time.perf_counter() - start)
            speed = {way: photos / statistics.median(times) for way, times in seconds.items()}
            plain_loop, thumbnail_loop = (
                f"{speed[way]:.1f} ({speed['lineup'] / speed[way]:.2f} x)" for way in ("plain", "thumbnail")
            )
            print(
                f"{megapixels:>10} {speed['lineup']:>8.1f} {plain_loop:>18} {thumbnail_loop:>18}", flush=True
            )


if __name__ == "__main__":
    cli.run(main)
