"""What the side cache holds, and which of it the rows of branches, tags and experiments name.

Reads git, changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from lineup import paths
from lineup.errors import UserError
from lineup.photos import decoding, image_cache, thumbnails
from lineup.settings.params import Preprocess
from lineup.storage import files

RECENT_HOURS = 24
KINDS = ("vectors", "pixels", "prepared", "training", "thumbnails")
_IMAGES_CODE = [Path("lineup/photos", file.name) for file in decoding.CODE]
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
        """A process may be at work with it, or was interrupted and will go on: git doesn't know of its row
        yet.
        """
        return time.time() - self.last_used < RECENT_HOURS * 3600

    def remove(self) -> bool:
        """Unless it was used since it was listed, or another process removed it."""
        try:
            if _last_used(self.folder, _listed(self.folder)) > self.last_used:
                return False
            files.remove_folder(self.folder)
        except FileNotFoundError:
            return False
        return True

    @property
    def needless(self) -> bool:
        return not self.used_by and not self.recent


def entries(root: Path, used: dict[tuple[str, str], set[str]]) -> list[Entry]:
    """Every folder of the side cache below `root`, sorted. used: (kind, fingerprint) -> rows."""
    found = []
    for kind in KINDS:
        for folder in sorted(
            path for path in (root / kind).glob("*") if path.is_dir() and not path.name.startswith(".")
        ):
            listed = _listed(folder)
            found.append(
                Entry(
                    kind,
                    folder,
                    _about(folder),
                    _images(kind, [path for path, _ in listed]),
                    sum(status.st_size for _, status in listed) / 1e6,
                    _last_used(folder, listed),
                    tuple(sorted(used.get((kind, folder.name), ()))),
                )
            )
    return found


def _listed(folder: Path) -> list[tuple[Path, Any]]:
    return [(path, status) for path, status in _files(folder) if not path.name.startswith(".")]


def _last_used(folder: Path, listed: list[tuple[Path, Any]]) -> float:
    return max((status.st_mtime for _, status in listed), default=folder.stat().st_mtime)


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
        return " ".join(
            [
                encoder["library"],
                *([encoder["name"]] if "name" in encoder else []),
                f"{encoder['image_size']} px",
            ]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _images(kind: str, in_folder: list[Path]) -> int | None:
    if kind in ("pixels", "prepared", "thumbnails"):
        return sum(file.suffix != ".json" for file in in_folder)
    if kind == "training":
        return None
    ids: set[bytes] = set()
    for file in in_folder:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="numpy") as piece:
                    ids.update(piece.get_tensor("ids").reshape(-1).view("S32").tolist())
            except (OSError, SafetensorError, KeyError):  # gone, or damaged: no run uses it
                continue
    return len(ids)


def used_by_rows() -> dict[tuple[str, str], set[str]]:
    """(kind, fingerprint) -> the rows that name it: of the working tree and of whatever commit a ref points
    at.

    Refs are branches, remote branches, tags, stashes, other worktrees and `dvc exp` experiments. UserError if
    this is no git repository, or lacks some of its objects.
    """
    used: dict[tuple[str, str], set[str]] = {
        ("thumbnails", thumbnails.cache_folder(paths.CACHE).name): {"the report"}
    }
    for contents in (_working_tree(), *_commits()):
        known, side = _settings(contents)
        if code := [contents[file.as_posix()] for file in _IMAGES_CODE if file.as_posix() in contents]:
            used.setdefault(("prepared", image_cache.fingerprint(side, code)), set()).update(known)
        for row in known:
            for kind, key in _kept_under(contents.get(paths.row_metrics(row).as_posix(), b"")).items():
                if key:
                    used.setdefault((kind, key), set()).add(row)
    return used


def _settings(contents: dict[str, bytes]) -> tuple[set[str], int]:
    """The rows of a commit, or of the working tree, and its shorter_side_px.

    Read leniently: other versions know other settings, and a file that is just being edited may be broken.
    Then every row counts whose results are there.
    """
    scored = {Path(name).stem for name in contents if Path(name).parent == _ROWS}
    side = Preprocess().shorter_side_px
    try:
        params = yaml.safe_load(contents.get(paths.PARAMS.as_posix(), b"")) or {}
        models, preprocess = params.get("models"), params.get("preprocess")
    except (yaml.YAMLError, AttributeError, ValueError, RecursionError):
        return scored, side
    said = preprocess.get("shorter_side_px", side) if isinstance(preprocess, dict) else side
    return {str(row) for row in models} if isinstance(models, dict) else scored, said if isinstance(
        said, int
    ) else side


def _kept_under(row: bytes) -> dict[str, str]:
    try:
        return json.loads(row)["costs"].get("kept_under") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _working_tree() -> dict[str, bytes]:
    return {
        path.as_posix(): path.read_bytes()
        for path in (paths.PARAMS, *_IMAGES_CODE, *_ROWS.glob("*.json"))
        if path.is_file()
    }


def _commits() -> Iterator[dict[str, bytes]]:
    """The files that matter of HEAD, here and in other worktrees, of every ref's commit and of every stash,
    by their path.
    """
    for commit in _git("rev-list", "--no-walk", "--all").decode().split():
        yield _files_of(commit)
    for line in _git("stash", "list", "--format=%H %P", check=False).decode().splitlines():
        stash, *parents = line.split()
        yield _files_of(stash) | {
            name: content for untracked in parents[2:] for name, content in _files_of(untracked).items()
        }


def _files_of(commit: str) -> dict[str, bytes]:
    listing = _git("ls-tree", "-r", "-z", commit, "--", *map(str, (paths.PARAMS, *_IMAGES_CODE, _ROWS)))
    blobs = [entry.split(b"\t", 1) for entry in listing.split(b"\0") if entry]
    names = [name.decode(errors="surrogateescape") for _, name in blobs]
    return dict(zip(names, _contents(head.split()[2] for head, _ in blobs), strict=True))


def _contents(blobs: Iterable[bytes]) -> list[bytes]:
    output = _git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob in blobs))
    contents = []
    while output:
        head, _, output = output.partition(b"\n")
        if head.endswith(b" missing"):
            raise UserError(
                f"git lacks the object {head.split()[0].decode()}, so it can't be told what branches use; fetch it, as a whole clone has it"
            )
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
        raise UserError(
            f"git {arguments[0]} failed, so it can't be told what branches use: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout
