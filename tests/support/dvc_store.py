"""Results as DVC stores them: a repository's objects and dvc.lock, written without running a stage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from tests.support.project import run

OBJECTS = Path(".dvc/cache/files/md5")


def start(project: Path) -> None:
    """Makes a DVC repository of the folder, without git."""
    run("dvc", "init", "-q", "--no-scm", cwd=project)


def store(project: Path, stage: str, *outs: Path) -> None:
    """Stores the stage's outs, each a file or a folder without folders, as its last result."""
    entries = [{"path": out.as_posix(), "md5": _stored(project, out)} for out in outs]
    lock = project / "dvc.lock"
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages | {stage: {"outs": entries}}}))


def _stored(project: Path, out: Path) -> str:
    if (project / out).is_file():
        return _object(project, (project / out).read_bytes())
    listing = [
        {"md5": _object(project, file.read_bytes()), "relpath": file.name}
        for file in sorted((project / out).iterdir())
    ]
    return _object(project, json.dumps(listing).encode(), ".dir")


def _object(project: Path, content: bytes, suffix: str = "") -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    path = project / OBJECTS / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5
