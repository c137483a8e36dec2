"""A content store in the local cache: bytes under a key, with a digest that tells whether they are intact.

An entry is the file `<folder>/<first two hex digits of the key>/<key>`. It holds the SHA-256 of the content
(32 bytes), then the content. Entries appear by a rename and hold the same bytes whoever writes them. So any
number of threads and processes may share a store, and a killed process leaves it intact.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lineup.errors import naming
from lineup.storage import files

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class BlobStore:
    """The entries below one folder, which is named after the fingerprint of all that decides them."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> BlobStore:
        """Records that the store is used, and removes what killed processes left half-written in it."""
        files.mark_used(folder)
        store = cls(folder)
        store.remove_abandoned()
        return store

    def remove_abandoned(self) -> None:
        """Removes what killed processes left half-written."""
        for part in self.folder.glob("??"):
            files.remove_abandoned(part)

    def read(self, key: str) -> memoryview | None:
        """The content under a key; None where there is none, or where it is damaged."""
        try:
            entry = memoryview(self._path(key).read_bytes())
        except OSError:
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == bytes(digest) else None

    def write(self, key: str, *parts: bytes | memoryview) -> None:
        """Stores the joined parts under a key of hex digits.

        Raises:
            OSError: the disk's; it names the entry.
        """
        path = self._path(key)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        temporary = path.with_name(f".{key}.{threading.get_ident()}.{os.getpid()}.tmp")
        try:
            with naming(path, temporary):
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    file.write(digest.digest())
                    for part in parts:
                        file.write(part)
                temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key
