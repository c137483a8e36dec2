"""Cached vectors by image, in files under `.cache/vectors/<fingerprint>/` that are added and never changed.

A file ("piece") holds some images' keys and vectors, sorted by key, and is named after its SHA-256.
A piece that is damaged in any way counts as absent, and its vectors are computed again. Pieces appear by a
rename, and so any number of processes can add at once.

Memory: about 150 bytes for each cached vector, and a few times the largest piece (16 MB).
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
# The largest size of a merged piece, and the number of small pieces above which they are merged.
MERGED_BYTES = 2**24
MOST_SMALL_PIECES = 256
_SUFFIX = ".safetensors"


def raw_ids(ids: Iterable[str]) -> Ids:
    """Ids of 64 hex digits each as S32 [N], which sort and compare as the ids do."""
    return np.frombuffer(bytes.fromhex("".join(ids)), dtype="S32")


def keys(images: pa.RecordBatch) -> Ids:
    """The keys under which the vectors of images are cached. Keys sort as the ids do.

    The key of an image is its image_id. If preprocess has shrunk it, the key is the first half of its
    image_id and the first half of the prepared bytes' id. So an image that is shrunk to another size has
    another key.

    Args:
        images: N rows with image_id and prepared_id.
    Returns:
        S32 [N].
    """
    keys = raw_ids(images.column("image_id").to_pylist()).view(np.uint8).reshape(-1, 32).copy()
    prepared = images.column("prepared_id").to_pylist()
    replaced = [row for row, digest in enumerate(prepared) if digest is not None]
    if replaced:
        keys[replaced, 16:] = (
            raw_ids(prepared[row] for row in replaced).view(np.uint8).reshape(-1, 32)[:, :16]
        )
    return keys.view("S32").reshape(-1)


class VectorCache:
    """The vectors of one fingerprint, each of `dim` numbers."""

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
        """Which of the ids have a vector: S32 [N] -> bool [N]."""
        known, _, _ = self._locations()
        if not len(known):
            return np.zeros(len(ids), bool)
        return known[np.minimum(np.searchsorted(known, ids), len(known) - 1)] == ids

    def ids(self) -> Ids:
        """All ids that have a vector: S32 [N], sorted."""
        return self._locations()[0]

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Stores a finished batch. ids: S32 [N]; vectors: float32 [N, D]."""
        name, written = self._write(ids, vectors)
        self._pieces[name], self._index = written, None
        if sum(self._is_small(ids) for ids in self._pieces.values()) > MOST_SMALL_PIECES:
            self.merge()

    def read(self, ids: Ids) -> Vectors:
        """The vectors of ids, all of which are cached: S32 [N], sorted -> float32 [N, D]."""
        for _ in range(3):
            try:
                return self._read(ids)
            except (OSError, SafetensorError, KeyError):  # another process has just merged a piece
                self._scan()
        raise UserError(f"{self.folder}: was changed while it was read; run again")

    def merge(self) -> None:
        """Merges small pieces. A process that reads one of them finds its vectors in the merged piece."""
        small = sorted(name for name, ids in self._pieces.items() if self._is_small(ids))
        for group in self._groups(small):
            try:
                parts = [self._load(name) for name in group]
            except (OSError, SafetensorError):  # another process merges them
                self._scan()
                return
            merged, written = self._write(
                np.concatenate([ids for ids, _ in parts]), np.concatenate([vectors for _, vectors in parts])
            )
            for name in group:
                if name != merged:
                    (self.folder / name).unlink(missing_ok=True)
                    del self._pieces[name]
            self._pieces[merged], self._index = written, None

    def _is_small(self, ids: Ids) -> bool:
        return len(ids) <= self.merged_rows // 2

    def _groups(self, names: list[str]) -> Iterator[list[str]]:
        """Pieces that make one of at most `merged_rows` rows."""
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
        """Adds the pieces that other processes have written, and forgets those that are gone."""
        present = {path.name for path in self.folder.glob(f"*{_SUFFIX}")}
        pieces = {name: ids for name, ids in self._pieces.items() if name in present}
        for name in sorted(present - pieces.keys()):
            ids = self._intact_ids(name)
            if ids is not None:
                pieces[name] = ids
        self._pieces, self._index = pieces, None

    def _intact_ids(self, name: str) -> Ids | None:
        """The ids of a piece; None if it is missing or damaged."""
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
        """Writes a piece, and returns its name and its ids, sorted and each once."""
        assert vectors.shape == (len(ids), self.dim), vectors.shape
        unique, first = np.unique(ids, return_index=True)
        rows = np.ascontiguousarray(vectors[first], dtype=np.float32)
        content = save({"ids": unique.view(np.uint8).reshape(-1, 32), "vectors": rows})
        name = hashlib.sha256(content).hexdigest() + _SUFFIX
        files.replace_atomically(self.folder / name, lambda temporary: temporary.write_bytes(content))
        return name, unique

    def _load(self, name: str) -> tuple[Ids, Vectors]:
        with safe_open(self.folder / name, framework="numpy") as piece:
            return piece.get_tensor("ids").reshape(-1).view("S32"), piece.get_tensor("vectors")

    def _locations(self) -> tuple[Ids, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """All ids, sorted, and for each the number of its piece in `_names`, and its row in that piece."""
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
        known, pieces, rows = self._locations()
        position = np.searchsorted(known, ids)
        if len(ids) and (
            not len(known) or not np.array_equal(known[np.minimum(position, len(known) - 1)], ids)
        ):
            raise KeyError("some ids have no vector")
        vectors = np.empty((len(ids), self.dim), np.float32)
        for number in np.unique(pieces[position]):
            in_piece = np.flatnonzero(pieces[position] == number)
            wanted = rows[position[in_piece]]
            first, last = int(wanted.min()), int(wanted.max())
            with safe_open(self.folder / self._names[number], framework="numpy") as piece:
                vectors[in_piece] = piece.get_slice("vectors")[first : last + 1][wanted - first]
        return vectors
