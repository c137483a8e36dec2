"""Photos as a network's transform leaves them, before it scales them to numbers: kept for the next row that
sees them the same way.

Many rows do: a network and what was fine-tuned from it, and each row that is trained again.
`.cache/pixels/<fingerprint>/<2 hex digits>/<SHA-256 of the encoded bytes>` holds the SHA-256 of the rest,
height and width, and the 8-bit pixels: a file that is damaged in any way is not used. Files appear by a
rename and hold the same bytes whoever writes them: processes may share them. Nothing is ever waited for here,
and nothing fails: what isn't kept is decoded again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.storage import files
from lineup.storage.blobs import BlobStore
from lineup.storage.files import IN_USE_SECONDS

Pixels = npt.NDArray[np.uint8]  # [H, W, RGB]
SPARED_BYTES = 5 * 10**9  # left free on the disk
_FACTS = "ingredients.json"  # written anew by each run that uses the folder: its age tells when that was
_SIZE = struct.Struct("<2I")


class PixelCache:
    """The pixels of one fingerprint.

    facts: what decides them, to be shown; max_bytes: of all fingerprints together, the others of which make
    room once they weren't used for a day; required_bytes: of the photos that a run has, so many at most.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], max_bytes: float, required_bytes: int) -> None:
        self.folder = folder
        self._counting = threading.Lock()
        self._store = BlobStore(folder)
        try:
            self._store.remove_abandoned()
            files.write_json(folder / _FACTS, facts)
            self._room = _room(folder, max_bytes, required_bytes)
        except OSError:  # a full disk, or another process that takes the folder away just now
            self._room = 0

    def take(self, content: bytes, make: Callable[[], Pixels]) -> Pixels:
        """An encoded image's pixels: the cached ones, or what `make` gives, cached where there is room."""
        key = hashlib.sha256(content).hexdigest()
        cached = self._store.read(key)
        if cached is not None:
            return np.frombuffer(cached, np.uint8, offset=_SIZE.size).reshape(*_SIZE.unpack_from(cached), 3)
        pixels = make()
        if self._reserve(pixels.nbytes):
            self._write(key, pixels)
        return pixels

    def _reserve(self, needed: int) -> bool:
        with self._counting:
            fits = self._room >= needed
            self._room -= needed if fits else 0
        return fits

    def _write(self, key: str, pixels: Pixels) -> None:
        try:
            self._store.write(key, _SIZE.pack(*pixels.shape[:2]), np.ascontiguousarray(pixels).data)
        except OSError:  # a full disk, or a folder that another process takes away: the vectors don't need it
            self._room = 0


def _room(folder: Path, max_bytes: float, required_bytes: int) -> float:
    """Bytes that may be added to `folder`.

    Takes away others for it, first those whose last use is longest ago.
    """
    files.remove_abandoned(folder.parent)
    sizes = {one: _bytes(one) for one in folder.parent.glob("[!.]*")}
    missing = max(0, required_bytes - sizes.get(folder, 0))
    for one in sorted(sizes, key=_last_used):
        if sum(sizes.values()) + missing <= max_bytes or time.time() - _last_used(one) < IN_USE_SECONDS:
            break
        with suppress(OSError):  # another process takes it away
            files.remove_folder(one)
        del sizes[one]
    return min(max_bytes - sum(sizes.values()), shutil.disk_usage(folder).free - SPARED_BYTES)


def _bytes(folder: Path) -> int:
    """About: files that other processes add or take away at the same time may be missed."""
    total = 0
    for part in folder.glob("??"):
        with suppress(OSError):
            total += sum(entry.stat().st_size for entry in os.scandir(part))
    return total


def _last_used(folder: Path) -> float:
    try:
        return (folder / _FACTS).stat().st_mtime
    except OSError:
        return 0.0
