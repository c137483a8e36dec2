"""Vectors that were computed before, by image: append-only files under `.cache/vectors/<fingerprint>/`.

A file ("piece") holds some images' ids and vectors, sorted by id, and is named after the SHA-256 of its
content: a piece that is damaged in any way is not used, its vectors are computed again. Pieces appear by a
    rename, so that any number of
processes can add at once. Memory: about 150 bytes per id that is kept, plus a few times one piece (at most 16
    MB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lineup.errors import UserError
from lineup.storage import files

Ids = npt.NDArray[np.bytes_]  # S32: the 32 bytes of a SHA-256
Vectors = npt.NDArray[np.float32]
MERGED_BYTES = 2**24
MOST_SMALL_PIECES = 256
_SUFFIX = ".safetensors"


def raw_ids(ids: Iterable[str]) -> Ids:
    """64 hex digits each -> S32 [N]; sorts and compares as the text does."""
    return np.frombuffer(bytes.fromhex("".join(ids)), dtype="S32")


def keys(images: pa.RecordBatch) -> Ids:
    """What a vector is kept under, S32 [N]: an image's id; half of it and of the prepared bytes' id where
    those aren't its own.

    images: N rows with image_id and prepared_id. Keys sort as the ids do. An image that is shrunk to another
    size than before has another key.
    """
    kept = raw_ids(images.column("image_id").to_pylist()).view(np.uint8).reshape(-1, 32).copy()
    prepared = images.column("prepared_id").to_pylist()
    replaced = [row for row, digest in enumerate(prepared) if digest is not None]
    if replaced:
        kept[replaced, 16:] = (
            raw_ids(prepared[row] for row in replaced).view(np.uint8).reshape(-1, 32)[:, :16]
        )
    return kept.view("S32").reshape(-1)


class VectorCache:
    """The vectors of one fingerprint; `dim` is their length."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self.merged_rows = max(2, MERGED_BYTES // (4 * dim))
        self._pieces: dict[str, Ids] = {}
        self._index: tuple[Ids, npt.NDArray[np.int32], npt.NDArray[np.int32]] | None = None
        self._names: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_abandoned(folder)
        self._scan()

    def has(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """ids: S32 [N] -> bool [N]."""
        known, _, _ = self._located()
        if not len(known):
            return np.zeros(len(ids), bool)
        return known[np.minimum(np.searchsorted(known, ids), len(known) - 1)] == ids

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Stores a finished batch. ids: S32 [N]; vectors: float32 [N, D]."""
        name, kept = self._write(ids, vectors)
        self._pieces[name], self._index = kept, None
        if sum(self._is_small(ids) for ids in self._pieces.values()) > MOST_SMALL_PIECES:
            self.merge()

    def read(self, ids: Ids) -> Vectors:
        """ids: S32 [N], sorted and all there -> float32 [N, D]. Reads each piece once for a call."""
        for _ in range(3):
            try:
                return self._read(ids)
            except (OSError, SafetensorError, KeyError):  # another process has merged a piece just now
                self._scan()
        raise UserError(f"{self.folder}: was changed while it was read; run again")

    def merge(self) -> None:
        """Puts small pieces together.

        One that another process is reading stays readable there as part of a larger one.
        """
        small = sorted(name for name, ids in self._pieces.items() if self._is_small(ids))
        for group in self._groups(small):
            try:
                parts = [self._load(name) for name in group]
            except (OSError, SafetensorError):
                self._scan()  # another process merges them
                return
            merged, kept = self._write(
                np.concatenate([ids for ids, _ in parts]), np.concatenate([vectors for _, vectors in parts])
            )
            for name in group:
                if name != merged:
                    (self.folder / name).unlink(missing_ok=True)
                    del self._pieces[name]
            self._pieces[merged], self._index = kept, None

    def _is_small(self, ids: Ids) -> bool:
        return len(ids) <= self.merged_rows // 2

    def _groups(self, names: list[str]) -> Iterator[list[str]]:
        group: list[str] = []
        rows = 0
        for name in names:
            if rows + len(self._pieces[name]) > self.merged_rows:
                yield group
                group, rows = [], 0
            group.append(name)
            rows += len(self._pieces[name])
        if len(group) > 1:
            yield group

    def _scan(self) -> None:
        """Looks for pieces that this process doesn't know, and forgets those that are gone."""
        there = {path.name for path in self.folder.glob(f"*{_SUFFIX}")}
        pieces = {name: ids for name, ids in self._pieces.items() if name in there}
        for name in sorted(there - pieces.keys()):
            ids = self._intact_ids(name)
            if ids is not None:
                pieces[name] = ids
        self._pieces, self._index = pieces, None

    def _intact_ids(self, name: str) -> Ids | None:
        try:
            with (self.folder / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() + _SUFFIX != name:
                    return None
            with safe_open(self.folder / name, framework="numpy") as piece:
                ids = piece.get_tensor("ids")
                fits = piece.get_slice("vectors").get_shape() == [len(ids), self.dim]
        except (OSError, SafetensorError):
            return None
        return ids.reshape(-1).view("S32") if fits else None

    def _write(self, ids: Ids, vectors: Vectors) -> tuple[str, Ids]:
        assert vectors.shape == (len(ids), self.dim), vectors.shape
        kept, first = np.unique(ids, return_index=True)
        rows = np.ascontiguousarray(vectors[first], dtype=np.float32)
        content = save({"ids": kept.view(np.uint8).reshape(-1, 32), "vectors": rows})
        name = hashlib.sha256(content).hexdigest() + _SUFFIX
        files.replace_atomically(self.folder / name, lambda temporary: temporary.write_bytes(content))
        return name, kept

    def _load(self, name: str) -> tuple[Ids, Vectors]:
        with safe_open(self.folder / name, framework="numpy") as piece:
            return piece.get_tensor("ids").reshape(-1).view("S32"), piece.get_tensor("vectors")

    def _located(self) -> tuple[Ids, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """All ids, sorted, with the place of each: number of its piece, and row therein."""
        if self._index is None:
            self._names = sorted(self._pieces)
            parts = [self._pieces[name] for name in self._names]
            ids = np.concatenate(parts) if parts else np.empty(0, "S32")
            piece = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
            row = (
                np.concatenate([np.arange(len(part), dtype=np.int32) for part in parts])
                if parts
                else np.empty(0, np.int32)
            )
            order = np.argsort(ids, kind="stable")
            self._index = ids[order], piece[order], row[order]
        return self._index

    def _read(self, ids: Ids) -> Vectors:
        known, pieces, rows = self._located()
        place = np.searchsorted(known, ids)
        if len(ids) and (not len(known) or not np.array_equal(known[np.minimum(place, len(known) - 1)], ids)):
            raise KeyError("some ids are not kept")
        vectors = np.empty((len(ids), self.dim), np.float32)
        for number in np.unique(pieces[place]):
            here = np.flatnonzero(pieces[place] == number)
            wanted = rows[place[here]]
            first, last = int(wanted.min()), int(wanted.max())
            with safe_open(self.folder / self._names[number], framework="numpy") as piece:
                vectors[here] = piece.get_slice("vectors")[first : last + 1][wanted - first]
        return vectors
