"""A folder with params.yaml from which stages fetch encoders through a hub on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.support import project

# Several rows in one process: importing the libraries takes longer than all else.
_FETCH = """
import sys
from stages import fetch
from lineup import cli
for row in sys.argv[1:]:
    cli.run(lambda: fetch.main(["--row", row]))
"""


def row(**encoder: Any) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "objective": {"name": "none"},
        "search": {"metric": "cosine", "index": "flat"},
    }


def environment(folder: Path, url: str, **extra: str) -> dict[str, str]:
    """Caches inside the project; nothing of the machine's own hub settings."""
    inherited = project.environment(forks=True)
    own = {name: value for name, value in inherited.items() if not name.startswith(("HF_", "TORCH_HOME"))}
    hub = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "hf"),
        "TORCH_HOME": str(folder / "torch"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return {**own, **hub, "PYTHONPATH": str(project.ROOT), **extra}


def write(folder: Path, rows: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"preprocess": {"shorter_side_px": 1024}, "models": rows}), encoding="utf-8"
    )


def fetch(folder: Path, url: str, *rows: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """What `python -m stages.fetch --row ROW` does, for each row."""
    command = ["python", "-c", _FETCH, *rows]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, url, **extra),
        capture_output=True,
        text=True,
        check=False,
    )


def photo(width: int, height: int, seed: int) -> Image.Image:
    """A smooth random picture: resizing filters and crops show in it."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


# Of the shapes that people have, some smaller than what a network takes: 3:2, tall, square, 3:4, 2:1, a
# panorama, a pole.
SIZES = ((97, 61), (50, 120), (32, 32), (300, 400), (520, 260), (840, 70), (60, 720), (300, 300), (21, 20))
PHOTOS = tuple(photo(width, height, seed) for seed, (width, height) in enumerate(SIZES))
