"""The local cache of vectors: written at once, read back, never half-read, safe for several processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import Ids, VectorCache, Vectors, raw_ids
from lineup.errors import UserError

DIM = 3


def ids_of(*numbers: int) -> Ids:
    return raw_ids(hashlib.sha256(str(number).encode()).hexdigest() for number in numbers)


def vectors_of(ids: Ids) -> Vectors:
    """Vectors that follow from the ids, so that any mix-up shows."""
    return ids.view(np.uint8).reshape(-1, 32)[:, :DIM].astype(np.float32) + 1


def pieces(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_ids_sort_and_compare_as_their_text_does() -> None:
    texts = ["00" * 32, "00" * 31 + "01", "01" + "00" * 31, "ff" * 32, "0f" + "ff" * 31]
    assert raw_ids(sorted(texts)).tolist() == sorted(raw_ids(texts).tolist())
    assert len(set(raw_ids(texts).tolist())) == 5
    assert len(raw_ids([])) == 0


def test_a_vector_is_kept_under_what_is_stored_of_its_image() -> None:
    ids = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(9))
    stored = [
        hashlib.sha256(b"shrunk " + i.encode()).hexdigest() if row % 3 == 1 else None
        for row, i in enumerate(ids)
    ]
    images = pa.RecordBatch.from_pydict({"image_id": ids, "prepared_id": pa.array(stored, pa.string())})
    made = [key.ljust(32, b"\0").hex() for key in vector_cache.keys(images).tolist()]
    assert made == [i if other is None else i[:32] + other[:32] for i, other in zip(ids, stored, strict=True)]
    assert made == sorted(made), "look-ups stay in the order of the pieces"
    assert len(vector_cache.keys(images.slice(0, 0))) == 0


def test_what_was_added_is_found_in_any_order_by_any_later_process(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, DIM)
    ids = ids_of(*range(20))
    assert not cache.has(ids).any()
    cache.add(ids[5:12], vectors_of(ids[5:12]))
    cache.add(ids[12:], vectors_of(ids[12:]))
    for reader in (cache, VectorCache(tmp_path, DIM)):
        assert reader.has(ids).tolist() == [False] * 5 + [True] * 15
        wanted = np.sort(ids[[5, 19, 8, 13]])
        assert np.array_equal(reader.read(wanted), vectors_of(wanted))


def test_ids_that_end_in_zeros_are_kept_apart(tmp_path: Path) -> None:
    ids = raw_ids(["aa" * 31 + "00", "aa" * 32])
    cache = VectorCache(tmp_path, DIM)
    cache.add(ids, vectors_of(ids) * [[1], [2]])
    assert VectorCache(tmp_path, DIM).read(ids).tolist() == (vectors_of(ids) * [[1], [2]]).tolist()


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), max_size=12),
    st.sets(st.integers(0, 40)),
    st.booleans(),
)
def test_any_history_gives_the_same_answers(batches: list[list[int]], asked: set[int], merged: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = VectorCache(Path(folder), DIM)
        for batch in batches:
            cache.add(ids_of(*batch), vectors_of(ids_of(*batch)))
        if merged:
            cache.merge()
        kept = {number for batch in batches for number in batch}
        reader = VectorCache(Path(folder), DIM)
        ids = ids_of(*asked)
        assert reader.has(ids).tolist() == [number in kept for number in asked]
        there = np.sort(ids[reader.has(ids)])
        assert np.array_equal(reader.read(there), vectors_of(there))
        assert np.array_equal(cache.read(there), vectors_of(there))


def test_small_pieces_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "MOST_SMALL_PIECES", 8)
    monkeypatch.setattr(vector_cache, "MERGED_BYTES", 30 * 4 * DIM)
    cache = VectorCache(tmp_path, DIM)
    ids = ids_of(*range(200))
    for start in range(0, 200, 2):
        cache.add(ids[start : start + 2], vectors_of(ids[start : start + 2]))
        assert len(pieces(tmp_path)) < 25
    cache.merge()
    assert max(len(piece) for piece in cache._pieces.values()) <= 30
    for reader in (cache, VectorCache(tmp_path, DIM)):
        assert np.array_equal(reader.read(np.sort(ids)), vectors_of(np.sort(ids)))
    assert len(list(tmp_path.iterdir())) == len(pieces(tmp_path)), "no temporary file is left"


def test_a_process_that_reads_notices_that_another_merged(tmp_path: Path) -> None:
    ids = np.sort(ids_of(*range(12)))
    writer = VectorCache(tmp_path, DIM)
    for start in range(0, 12, 3):
        writer.add(ids[start : start + 3], vectors_of(ids[start : start + 3]))
    reader, merger = VectorCache(tmp_path, DIM), VectorCache(tmp_path, DIM)
    merger.merge()
    assert len(pieces(tmp_path)) == 1
    assert np.array_equal(reader.read(ids), vectors_of(ids))
    writer.merge()  # its pieces are gone
    assert np.array_equal(writer.read(ids), vectors_of(ids))


def test_a_cache_that_was_removed_meanwhile_is_told(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, DIM)
    cache.add(ids_of(1), vectors_of(ids_of(1)))
    pieces(tmp_path)[0].unlink()
    with pytest.raises(UserError, match="was changed while it was read; run again"):
        cache.read(ids_of(1))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign", "unreadable name"])
def test_a_damaged_piece_is_not_used(tmp_path: Path, damage: str) -> None:
    cache = VectorCache(tmp_path, DIM)
    good, bad = ids_of(1, 2), ids_of(3, 4)
    cache.add(good, vectors_of(good))
    before = set(pieces(tmp_path))
    cache.add(bad, vectors_of(bad))
    (piece,) = set(pieces(tmp_path)) - before
    data = bytearray(piece.read_bytes())
    if damage == "cut":
        piece.write_bytes(data[:-4])
    elif damage == "flipped":
        data[-1] ^= 1
        piece.write_bytes(data)
    elif damage == "emptied":
        piece.write_bytes(b"")
    elif damage == "foreign":
        piece.unlink()
        (tmp_path / f"{hashlib.sha256(b'{}').hexdigest()}.safetensors").write_bytes(b"{}")
    else:
        piece.rename(tmp_path / "copy of a piece.safetensors")
    reader = VectorCache(tmp_path, DIM)
    assert reader.has(good).all()
    assert not reader.has(bad).any()
    reader.add(bad, vectors_of(bad))
    reader.merge()
    assert VectorCache(tmp_path, DIM).has(np.concatenate([good, bad])).all()


def test_vectors_of_another_length_are_not_used(tmp_path: Path) -> None:
    VectorCache(tmp_path, DIM).add(ids_of(1), vectors_of(ids_of(1)))
    assert not VectorCache(tmp_path, DIM + 1).has(ids_of(1)).any()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".half.safetensors.{ended.pid}.tmp").write_bytes(b"half")
    (tmp_path / f".other.safetensors.{os.getppid()}.tmp").write_bytes(b"of a process at work")
    VectorCache(tmp_path, DIM)
    assert [path.name for path in tmp_path.iterdir()] == [f".other.safetensors.{os.getppid()}.tmp"]


_WRITER = """
import sys
from pathlib import Path
from tests.test_vector_cache import DIM, ids_of, vectors_of
from lineup.embedding import vector_cache
vector_cache.MOST_SMALL_PIECES = 4
cache = vector_cache.VectorCache(Path(sys.argv[1]), DIM)
for start in range(int(sys.argv[2]), int(sys.argv[3]), 3):
    ids = ids_of(*range(start, start + 3))
    cache.add(ids, vectors_of(ids))
    cache.read(ids[ids.argsort()])
cache.merge()
"""


@pytest.mark.slow
def test_processes_share_a_cache(tmp_path: Path) -> None:
    """Four writers at once, with overlapping images, each merging what it sees: nothing is lost."""
    spans = [(0, 90), (60, 150), (120, 210), (0, 210)]
    started = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(a), str(b)]) for a, b in spans
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0, 0]
    ids = np.sort(ids_of(*range(210)))
    assert np.array_equal(VectorCache(tmp_path, DIM).read(ids), vectors_of(ids))
