"""The last results of stages, from the DVC cache.

DVC removes a stage's outs before it runs the stage, but dvc.lock still names them by their hash, and the DVC
cache still has them. In a clone that ran `dvc pull`, it has them although the local cache is empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Stored:
    """A file of a folder, as the DVC cache has it.

    Args:
        name: its path in the folder.
        path: of its object. It may not exist.
        md5: of its content, in hex.
    """

    name: str
    path: Path
    md5: str

    def is_intact(self) -> bool:
        """Whether the object exists and has the content that its name says."""
        try:
            with self.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        except OSError:
            return False
        return digest.hexdigest() == self.md5


def outs(stage: str) -> dict[str, str]:
    """The MD5 of a stage's outs by path, from dvc.lock; the MD5 of a folder is that of its listing."""
    try:
        return {out["path"]: out["md5"] for out in _stages()[stage]["outs"]}
    except (KeyError, TypeError):
        return {}


def rows_of(stage: str) -> list[str]:
    """The rows that have a last result of the stage, as "a" of "embed@a", sorted."""
    return sorted(name.removeprefix(f"{stage}@") for name in _stages() if name.startswith(f"{stage}@"))


def folder() -> Path | None:
    """The folder of DVC's objects, which may lie outside the repository; None if `dvc cache dir` fails."""
    return _folder(Path.cwd())


@cache
def _folder(project: Path) -> Path | None:
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    dvc = subprocess.run(command, cwd=project, capture_output=True, check=False)
    return Path(os.fsdecode(dvc.stdout.strip())) / "files" / "md5" if dvc.returncode == 0 else None


def _stages() -> dict[str, Any]:
    try:
        return _parsed(LOCK.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


@cache
def _parsed(lock: str) -> dict[str, Any]:
    """The stages of dvc.lock, which takes a tenth of a second to parse for a dozen rows."""
    try:
        return dict(yaml.load(lock, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}


def read(objects: Path, md5: str) -> bytes | None:
    """The content of a small object; None if it is missing or damaged."""
    try:
        content = _object(objects, md5).read_bytes()
    except OSError:
        return None
    intact = hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")
    return content if intact else None


def listed(objects: Path, md5: str) -> list[Stored]:
    """The files of the folder whose listing has this MD5; none if the listing is missing or damaged."""
    content = read(objects, md5)
    entries = json.loads(content) if content else []
    return [Stored(entry["relpath"], _object(objects, entry["md5"]), entry["md5"]) for entry in entries]


def _object(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]
