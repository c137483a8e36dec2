"""What the side cache holds, and which of it the rows of branches, tags and experiments name; reads git, changes nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from stages.lib import image_cache, paths
from stages.lib.errors import UserError
from stages.lib.params import Preprocess

RECENT_HOURS = 24
_IMAGES_CODE = Path("stages/lib/images.py")
_ROWS = paths.row_metrics("x").parent


@dataclass(frozen=True)
class Entry:
    """One folder of the side cache. images: None where that has no meaning; used_by: rows, sorted."""

    kind: str
    folder: Path
    about: str
    images: int | None
    megabytes: float
    last_used: float  # seconds since the epoch
    used_by: tuple[str, ...]

    @property
    def recent(self) -> bool:
        """A process may be at work with it, or was interrupted and will go on: git doesn't know of its row yet."""
        return time.time() - self.last_used < RECENT_HOURS * 3600

    @property
    def needless(self) -> bool:
        return not self.used_by and not self.recent


def entries(root: Path, used: dict[tuple[str, str], set[str]]) -> list[Entry]:
    """Every folder of the side cache below `root`, sorted. used: (kind, fingerprint) -> rows."""
    found = []
    for kind in ("vectors", "pixels", "prepared", "training", "thumbnails"):
        for folder in sorted(path for path in (root / kind).glob("*") if path.is_dir() and not path.name.startswith(".")):
            files = [(path, status) for path, status in _files(folder) if not path.name.startswith(".")]
            found.append(
                Entry(
                    kind,
                    folder,
                    _about(folder),
                    _images(kind, [path for path, _ in files]),
                    sum(status.st_size for _, status in files) / 1e6,
                    max((status.st_mtime for _, status in files), default=folder.stat().st_mtime),
                    tuple(sorted(used.get((kind, folder.name), ()))),
                )
            )
    return found


def _files(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process has just renamed or merged it
            continue
        if path.is_file():
            yield path, status


def _about(folder: Path) -> str:
    try:
        encoder = json.loads((folder / "ingredients.json").read_text(encoding="utf-8"))["encoder"]
        return " ".join([encoder["library"], *([encoder["name"]] if "name" in encoder else []), f"{encoder['image_size']} px"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _images(kind: str, files: list[Path]) -> int | None:
    if kind in ("pixels", "prepared", "thumbnails"):
        return sum(file.suffix != ".json" for file in files)
    if kind == "training":
        return None
    ids: set[bytes] = set()
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="numpy") as piece:
                    ids.update(piece.get_tensor("ids").reshape(-1).view("S32").tolist())
            except (OSError, SafetensorError, KeyError):  # gone, or damaged: no run uses it
                continue
    return len(ids)


def used_by_rows() -> dict[tuple[str, str], set[str]]:
    """(kind, fingerprint) -> the rows that name it: of the working tree and of whatever commit a ref points at.

    Refs are branches, remote branches, tags, stashes and `dvc exp` experiments. UserError if this is no git repository.
    """
    used: dict[tuple[str, str], set[str]] = {}
    for files in (_working_tree(), *_commits()):
        try:
            params = yaml.safe_load(files.get(paths.PARAMS.as_posix(), b"")) or {}
            known = {*params.get("models", {})}
            side = Preprocess.model_validate(params.get("preprocess") or {}).max_side
        except (yaml.YAMLError, AttributeError, TypeError, ValueError):  # a commit with broken settings runs nothing
            continue
        if code := files.get(_IMAGES_CODE.as_posix()):
            used.setdefault(("prepared", image_cache.fingerprint(side, hashlib.sha256(code).hexdigest())), set()).update(known)
        for row in known:
            for kind, key in _kept_under(files.get(paths.row_metrics(row).as_posix(), b"")).items():
                if key:
                    used.setdefault((kind, key), set()).add(row)
    return used


def _kept_under(row: bytes) -> dict[str, str]:
    try:
        return json.loads(row)["costs"].get("kept_under") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _working_tree() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in (paths.PARAMS, _IMAGES_CODE, *_ROWS.glob("*.json")) if path.is_file()}


def _commits() -> Iterator[dict[str, bytes]]:
    """The files that matter of HEAD and of every ref's commit, by their path; equal commits once."""
    refs = _git("for-each-ref", "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)").decode().split()
    head = _git("rev-parse", "--verify", "--quiet", "HEAD", check=False).decode().split()
    for commit in dict.fromkeys([*head, *refs]):
        listing = _git("ls-tree", "-r", "-z", commit, "--", *map(str, (paths.PARAMS, _IMAGES_CODE, _ROWS)), check=False)
        blobs = [entry.split(b"\t", 1) for entry in listing.split(b"\0") if entry]
        names = [name.decode(errors="surrogateescape") for _, name in blobs]
        yield dict(zip(names, _contents(head.split()[2] for head, _ in blobs), strict=True))


def _contents(blobs: Iterable[bytes]) -> list[bytes]:
    output = _git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob in blobs))
    contents = []
    while output:
        head, _, output = output.partition(b"\n")
        size = int(head.split()[2])
        contents.append(output[:size])
        output = output[size + 1 :]
    return contents


def _git(*arguments: str, stdin: bytes = b"", check: bool = True) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed, so it can't be told what branches use; install it") from None
    if check and done.returncode:
        raise UserError(f"git {arguments[0]} failed, so it can't be told what branches use: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
