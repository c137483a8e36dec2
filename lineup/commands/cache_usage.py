"""What the local cache holds, when each part was last used, and which parts to remove first."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lineup.storage import files

KINDS = ("vectors", "pixels", "prepared", "attributes", "training", "thumbnails")
_SECONDS_PER_DAY = 24 * 3600
_BYTES_PER_MB, _MB_PER_GB = 1e6, 1e3


@dataclass(frozen=True)
class Entry:
    """One folder of the local cache: all results of one fingerprint.

    Attributes:
        kind: one of KINDS.
        folder: named after the fingerprint.
        description: of the encoder that made it; empty where the folder does not say.
        images: how many it holds results of; None where that has no meaning.
        megabytes: 10^6 bytes.
        last_used: seconds since the epoch.
    """

    kind: str
    folder: Path
    description: str
    images: int | None
    megabytes: float
    last_used: float

    def remove(self) -> bool:
        """Removes the folder, unless it was used since it was listed, or another process removed it."""
        try:
            if _last_used(self.folder, _list_files(self.folder)) > self.last_used:
                return False
            files.remove_folder(self.folder)
        except FileNotFoundError:
            return False
        return True


_FileStatus = tuple[Path, os.stat_result]


def entries(root: Path) -> list[Entry]:
    """Every folder of the local cache below `root`, sorted by kind and fingerprint."""
    return [
        _entry(kind, folder)
        for kind in KINDS
        for folder in sorted((root / kind).glob("[!.]*"))
        if folder.is_dir()
    ]


def expired(
    listed: Iterable[Entry], max_age_days: float, max_gb: float | None, now: float | None = None
) -> list[Entry]:
    """The entries that pruning removes, least recently used first.

    That is every entry unused for longer than `max_age_days`, then as many more as it takes for the rest to
    fit into `max_gb`. What was used in the last 24 hours always stays, since a run may still need it.

    Args:
        max_gb: 10^9 bytes for all entries together; None for no limit.
        now: seconds since the epoch; the present by default.
    """
    now = time.time() if now is None else now
    oldest_first = sorted(listed, key=lambda entry: (entry.last_used, entry.folder))
    total = sum(entry.megabytes for entry in oldest_first)
    removed = []
    for entry in oldest_first:
        age = now - entry.last_used
        too_old = age > max_age_days * _SECONDS_PER_DAY
        too_large = max_gb is not None and total > max_gb * _MB_PER_GB
        if age > files.IN_USE_SECONDS and (too_old or too_large):
            removed.append(entry)
            total -= entry.megabytes
    return removed


def _entry(kind: str, folder: Path) -> Entry:
    listed = _list_files(folder)
    return Entry(
        kind,
        folder,
        _describe(folder),
        _count_images(kind, [path for path, _ in listed]),
        sum(status.st_size for _, status in listed) / _BYTES_PER_MB,
        _last_used(folder, listed),
    )


def _list_files(folder: Path) -> list[_FileStatus]:
    """The folder's files, at any depth, without the hidden ones that are being written."""
    return [(path, status) for path, status in _walk(folder) if not path.name.startswith(".")]


def _walk(folder: Path) -> Iterator[_FileStatus]:
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # Another process has just renamed or merged it.
            continue
        if path.is_file():
            yield path, status


def _last_used(folder: Path, listed: Sequence[_FileStatus]) -> float:
    """When a folder was last used: what uses it either touches it (`files.mark_used`) or writes into it."""
    return max(folder.stat().st_mtime, *(status.st_mtime for _, status in listed), 0.0)


def _describe(folder: Path) -> str:
    try:
        encoder = json.loads((folder / "ingredients.json").read_text(encoding="utf-8"))["encoder"]
        name = [encoder["name"]] if "name" in encoder else []
        return " ".join([encoder["library"], *name, f"{encoder['image_size']} px"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _count_images(kind: str, paths: list[Path]) -> int | None:
    if kind == "training":
        return None
    if kind != "vectors":
        return sum(path.suffix != ".json" for path in paths)
    ids: set[bytes] = set()
    for path in paths:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="numpy") as piece:
                    ids.update(piece.get_tensor("ids").reshape(-1).view("S32").tolist())
            except (OSError, SafetensorError, KeyError):  # Removed just now, or damaged: no run uses it.
                continue
    return len(ids)
