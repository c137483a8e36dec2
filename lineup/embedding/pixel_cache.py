"""The 8-bit pixels of photos after a network's transform, before they are scaled to numbers.

Rows that have the same transform share them: a network and what was fine-tuned from it, and each row that is
trained again. `.cache/pixels/<fingerprint>/<2 hex digits>/<SHA-256 of the encoded bytes>` holds the SHA-256
of the rest of the file, height and width, and the pixels. A file that is damaged in any way counts as absent.

Files appear by a rename, and hold the same bytes whoever writes them, so processes may share them. The cache
never waits and never fails: pixels that aren't cached are decoded again.
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
# Bytes of the disk that the cache leaves free.
SPARED_BYTES = 5 * 10**9
# Each run that uses a fingerprint's folder writes this file, and so its age is that of the last use.
_KEY_PARTS_FILE = "ingredients.json"
_SIZE = struct.Struct("<2I")


class PixelCache:
    """The pixels of one fingerprint.

    Args:
        key_parts: what decides the pixels, as JSON, for people to read.
        max_bytes: of the pixels of all fingerprints. Those of others are removed for this one's, if they
            weren't used for a day.
        required_bytes: what the photos of this run take at most.
    """

    def __init__(
        self, folder: Path, key_parts: dict[str, Any], max_bytes: float, required_bytes: int
    ) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._store = BlobStore(folder)
        try:
            self._store.remove_abandoned()
            files.write_json(folder / _KEY_PARTS_FILE, key_parts)
            self._free_bytes = _evict_others(folder, max_bytes, required_bytes)
        except OSError:  # a full disk, or another process that removes the folder just now
            self._free_bytes = 0

    def take(self, content: bytes, make: Callable[[], Pixels]) -> Pixels:
        """An encoded image's cached pixels, or those that `make` returns, cached if they fit."""
        key = hashlib.sha256(content).hexdigest()
        cached = self._store.read(key)
        if cached is not None:
            return np.frombuffer(cached, np.uint8, offset=_SIZE.size).reshape(*_SIZE.unpack_from(cached), 3)
        pixels = make()
        if self._reserve(pixels.nbytes):
            self._write(key, pixels)
        return pixels

    def _reserve(self, needed: int) -> bool:
        with self._lock:
            fits = self._free_bytes >= needed
            self._free_bytes -= needed if fits else 0
        return fits

    def _write(self, key: str, pixels: Pixels) -> None:
        try:
            self._store.write(key, _SIZE.pack(*pixels.shape[:2]), np.ascontiguousarray(pixels).data)
        except OSError:  # a full disk, or a folder that another process removes: the vectors don't need it
            self._free_bytes = 0


def _evict_others(folder: Path, max_bytes: float, required_bytes: int) -> float:
    """Removes the pixels of other fingerprints, the least recently used first, until `required_bytes` fit.

    Returns:
        The number of bytes that may be added to `folder`.
    """
    files.remove_abandoned(folder.parent)
    sizes = {cached: _bytes(cached) for cached in folder.parent.glob("[!.]*")}
    missing = max(0, required_bytes - sizes.get(folder, 0))
    for cached in sorted(sizes, key=_last_used):
        if sum(sizes.values()) + missing <= max_bytes or time.time() - _last_used(cached) < IN_USE_SECONDS:
            break
        with suppress(OSError):  # another process removes it
            files.remove_folder(cached)
        del sizes[cached]
    return min(max_bytes - sum(sizes.values()), shutil.disk_usage(folder).free - SPARED_BYTES)


def _bytes(folder: Path) -> int:
    """The size of a folder, without files that other processes add or remove at the same time."""
    total = 0
    for part in folder.glob("??"):
        with suppress(OSError):
            total += sum(entry.stat().st_size for entry in os.scandir(part))
    return total


def _last_used(folder: Path) -> float:
    try:
        return (folder / _KEY_PARTS_FILE).stat().st_mtime
    except OSError:
        return 0.0
