"""The flat index of float32 vectors, which gives an exact search."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import faiss

from lineup.search import faiss_vectors
from lineup.search.vectors import Batch, Metric, prepare_vectors
from lineup.storage import files


def empty(metric: Metric, dim: int) -> faiss.IndexFlat:
    """A flat index without vectors."""
    return faiss.IndexFlat(dim, faiss_metric(metric))


def build(metric: Metric, dim: int, rows: int, batches: Iterable[Batch], source: str) -> faiss.IndexFlat:
    """A flat index of `rows` vectors; memory holds them once.

    cosine: inner product of L2-normalised vectors. l2: squared distance of the vectors as they are.

    Args:
        source: where the vectors were read, which errors name.
    Raises:
        UserError: the vector of an image cannot be searched.
    """
    index = empty(metric, dim)
    # Reserved at once: adding batch by batch would move the vectors, and hold them twice meanwhile.
    index.codes.resize(rows * index.code_size)
    stored = faiss_vectors.stored_vectors(index, rows)
    done = 0
    for ids, vectors in batches:
        stored[done : done + len(ids)] = prepare_vectors(metric, ids, vectors, source)
        done += len(ids)
    assert done == rows, f"{done} vectors came, {rows} were announced"
    index.ntotal = rows
    return index


def build_file(
    path: Path, metric: Metric, dim: int, rows: int, batches: Iterable[Batch], source: str
) -> None:
    """Writes the file that `faiss_file.save` would write of `build`'s index.

    Holds one batch at a time, so the index may be larger than memory.
    """
    header = bytearray(faiss.serialize_index(empty(metric, dim)).tobytes())
    # FAISS's format begins with four letters for the type, the dimension (4 bytes) and the number of vectors
    # (8 bytes); it ends with the number of floats (8 bytes) and the floats.
    header[8:16], header[-8:] = struct.pack("<q", rows), struct.pack("<Q", rows * dim)

    def write(temporary: Path) -> None:
        done = 0
        with temporary.open("wb") as file:
            file.write(header)
            for ids, vectors in batches:
                file.write(prepare_vectors(metric, ids, vectors, source).data)
                done += len(ids)
        assert done == rows, f"{done} vectors came, {rows} were announced"

    files.replace_atomically(path, write)


def faiss_metric(metric: Metric) -> int:
    """FAISS's number for a metric."""
    return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
