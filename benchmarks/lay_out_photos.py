"""What `lineup photos` takes for many files, compared with copying them: the rest is its own work.

Run: python -m benchmarks.lay_out_photos
Takes about 3 minutes on two cores, 200 MB of memory and 1 GB of the temporary folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import command
from lineup import cli

ROOT = Path(__file__).resolve().parent.parent
PHOTOS, PHOTOS_PER_LABEL, PHOTO_BYTES = 100_000, 50, 4_000
MORE_LABELS = 10
TARGET_SECONDS = 60


def create(source: Path, labels: range) -> None:
    """Files that begin as a JPEG does; `lineup photos` reads no further."""
    for label in labels:
        folder = source / f"sku{label:05}"
        folder.mkdir(parents=True)
        for number in range(PHOTOS_PER_LABEL):
            (folder / f"{number}.jpg").write_bytes(
                b"\xff\xd8\xff" + f"{label} {number}".encode().ljust(PHOTO_BYTES)
            )


def copy(source: Path, to: Path) -> None:
    for file in source.rglob("*.jpg"):
        shutil.copyfile(file, to / f"{file.parent.name} {file.name}")


def lay_out(folder: Path, source: Path, *options: str) -> None:
    arguments = ("photos", str(source), *options)
    subprocess.run([sys.executable, "-m", "lineup", *arguments], cwd=folder, check=True, stdout=sys.stderr)


def seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main() -> None:
    command.parser("lay_out_photos").parse_args()
    with tempfile.TemporaryDirectory(prefix="lineup-photos-") as name:
        folder, source = Path(name), Path(name) / "products"
        (folder / "copy").mkdir()
        (folder / "lineup").symlink_to(ROOT / "lineup")
        labels = PHOTOS // PHOTOS_PER_LABEL
        create(source, range(labels))
        copying = seconds(copy, source, folder / "copy")
        first = seconds(lay_out, folder, source)
        again = seconds(lay_out, folder, source)
        create(source, range(labels, labels + MORE_LABELS))
        grown = seconds(lay_out, folder, source)
        linked = seconds(lay_out, folder, source, "--hard-links", "--to", "linked")
    print(f"{PHOTOS:,} photos of {PHOTO_BYTES / 1000:g} kB; copying them alone: {copying:.1f} s")
    print(
        f"lineup photos: {first:.1f} s, {first - copying:.1f} s beyond copying (target: {TARGET_SECONDS} s)"
    )
    print(f"the same again: {again:.1f} s; with {MORE_LABELS * PHOTOS_PER_LABEL} photos more: {grown:.1f} s")
    print(f"by hard links (where the disk has no reflinks): {linked:.1f} s")


if __name__ == "__main__":
    cli.run(main)
