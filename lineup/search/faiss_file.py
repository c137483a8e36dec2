"""The file of one FAISS index."""

from __future__ import annotations

from pathlib import Path

import faiss

from lineup.errors import UserError
from lineup.search.flat_index import faiss_metric
from lineup.search.vectors import Metric
from lineup.storage import files


def save(path: Path, index: faiss.Index) -> None:
    """Writes an index to a file, which appears as a whole or not at all."""

    def write(temporary: Path) -> None:
        # Through Python's file object: given a name, FAISS ignores that the disk is full when it closes the
        # file.
        with temporary.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    files.replace_atomically(path, write)


def size(index: faiss.Index) -> int:
    """The number of bytes of the file that `save` writes."""
    counted = 0

    def count(part: bytes) -> int:
        nonlocal counted
        counted += len(part)
        return len(part)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
    return counted


def load(path: Path, metric: Metric, gallery: int) -> faiss.Index:
    """An index that is mapped into memory rather than read, so it may be larger than memory.

    Args:
        gallery: how many images the index must hold.
    Raises:
        UserError: the file does not exist, is damaged, or is of another metric or gallery.
    """
    try:
        with path.open("rb") as file:
            lists = file.read(2) == b"Iw"  # an inverted file, which FAISS maps in another way
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if lists else faiss.IO_FLAG_MMAP_IFC)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it") from None
    except RuntimeError:
        raise damaged(path) from None
    check_matches(path, index.metric_type, index.ntotal, metric, gallery)
    return index


def check_matches(path: Path, metric_type: int, images: int, metric: Metric, gallery: int) -> None:
    """Raises UserError if an index is of another metric, or of another number of images.

    Args:
        metric_type, images: of the index, as FAISS has them.
        metric, gallery: as `load` takes them.
    """
    if metric_type != faiss_metric(metric):
        raise UserError(
            f"{path}: was built for another metric than {metric}; run `dvc repro` to build it again"
        )
    if images != gallery:
        raise UserError(
            f"{path}: the gallery has changed since it was built, from {images:,} images "
            f"to {gallery:,}; run `dvc repro` to go on"
        )


def damaged(path: Path) -> UserError:
    """The error of a file that holds no index."""
    return UserError(f"{path}: is not a FAISS index; run `dvc repro`, or `dvc pull` it")
