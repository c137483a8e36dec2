"""A project of one row that is really trained, small enough to be run, killed and run again many times."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.support import project
from tests.support.project import tree

ROW = "row"
IDENTITIES = 12  # of the demo: 80 images to search and to search with, as many to train on
BATCH = 4


def params(objective: str = "arcface") -> dict[str, Any]:
    """timm's smallest network with random weights: what is tested is what survives, not how good it is."""
    encoder = {
        "library": "timm",
        "name": "test_resnet",
        "weights": "none",
        "allow_random": True,
        "image_size": 24,
    }
    training = {
        "epochs": 4,
        "labels_per_batch": 4,
        "images_per_label": 2,
        "images_per_epoch": 64,
        "learning_rate": 0.003,
        "device": "cpu",
    }
    settings = project.demo_params()
    # Twice what the row resizes to, and below the demo's 72 px: every photo is shrunk.
    settings["preprocess"] |= {"shorter_side_px": 56}
    settings["embed"] |= {"batch_size": BATCH, "device": "cpu"}
    settings["train"] = {**training, "validation_share": 0.2}
    settings["score"] |= {"bootstrap_samples": 100}
    settings["models"] = {
        ROW: {
            "encoder": encoder,
            "objective": {"name": objective},
            "search": {"metric": "cosine", "index": "flat"},
        }
    }
    settings["map"] = {}
    return settings


def create(folder: Path, objective: str = "arcface") -> Path:
    """With photos, and nothing run."""
    project.create(folder, params(objective))
    project.run("python", "-m", "lineup", "demo", "--identities", str(IDENTITIES), cwd=folder)
    return folder


def command(stage: str) -> list[str]:
    return ["python", "-m", f"stages.{stage}", *([] if stage == "preprocess" else ["--row", ROW])]


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of every result by its path; without measured times, which differ from run to run."""
    found = {
        f"data/{part}/{name}": content
        for part in ("prepared", "models", "embeddings", "indexes", "rankings")
        for name, content in of(folder, part)
    }
    found |= {
        f"metrics/queries/{name}": content for name, content in tree(folder / "metrics/queries").items()
    }
    for name, content in tree(folder / "metrics/rows").items():
        measured = json.loads(content)
        del measured["costs"]
        found[f"metrics/rows/{name}"] = json.dumps(measured).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def of(folder: Path, part: str) -> list[tuple[str, bytes]]:
    """Whole files only; those that a process is still writing have another name."""
    return [(name, content) for name, content in tree(folder / "data" / part).items() if ".tmp" not in name]


def abandoned(folder: Path) -> list[Path]:
    """Temporary files and folders, in the results and in the local cache."""
    return [path for part in ("data", ".cache", "metrics") for path in (folder / part).rglob(".*.tmp")]


def kept_vectors(folder: Path) -> list[Path]:
    return sorted((folder / ".cache/vectors").glob("*/*.safetensors"))


def costs(folder: Path) -> dict[str, Any]:
    return json.loads((folder / f"data/costs/{ROW}/embed.json").read_text(encoding="utf-8"))
