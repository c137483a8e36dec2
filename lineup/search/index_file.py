"""The file of an index, and the parts of the gallery in it.

A flat index of float32 vectors is one FAISS index, however the gallery is divided: the file ends with the
vectors in the order of their images, so each part is a stretch of it. Other indexes are built part by part.
The file is then an uncompressed ZIP archive with a FAISS index for each part, which `unzip` takes out.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
import numpy.typing as npt

from lineup.errors import UserError
from lineup.search import faiss_file
from lineup.search.parted_index import PartedIndex, Searchable
from lineup.search.vectors import Metric
from lineup.storage import files

Bytes = npt.NDArray[np.uint8]

_ARCHIVE_BEGINS_WITH = b"PK\x03\x04"
_BYTES_OF_ENTRY_HEADER = 30  # before the entry's name
_FIRST_DATE_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # so that the same indexes give the same bytes


@dataclass(frozen=True)
class Part:
    """A part of the gallery, and the bytes of its FAISS index.

    number: from 0. start, images: the position of its first image, and how many there are.
    offset, size: where the file has its bytes; header: bytes that come before those of the file.
    """

    path: Path
    number: int
    start: int
    images: int
    offset: int
    size: int
    header: bytes = b""

    def read(self) -> Bytes:
        """The bytes of the part's index, which `opened` takes. Raises UserError if the file is too short."""
        data = np.empty(len(self.header) + self.size, np.uint8)
        data[: len(self.header)] = np.frombuffer(self.header, np.uint8)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            if file.readinto(data[len(self.header) :].data) < self.size:
                raise UserError(f"{self.path}: has changed while it was read; run `dvc repro` to go on")
        return data


@dataclass(frozen=True)
class IndexFile:
    """The index of a file, mapped into memory rather than read, and the parts in which it can be read."""

    index: Searchable
    parts: Sequence[Part]


def number_of_parts(images: int, part_rows: int | None) -> int:
    """The least number of parts that have at most `part_rows` images each; 1 without that setting."""
    return 1 if part_rows is None else max(1, -(-images // part_rows))


def starts(images: int, parts: int) -> list[int]:
    """Where each part begins, and where the last one ends. The parts differ by one image at most."""
    return [images * number // parts for number in range(parts + 1)]


def save(path: Path, indexes: Iterable[faiss.Index], parts: int) -> None:
    """Writes an index of each part, one at a time; the file appears as a whole."""
    if parts == 1:
        for index in indexes:
            faiss_file.save(path, index)
        return

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for number, index in enumerate(indexes):
                entry = zipfile.ZipInfo(f"part_{number:05}.faiss", _FIRST_DATE_OF_ZIP)
                with archive.open(entry, "w", force_zip64=True) as file:
                    faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    files.replace_atomically(path, write)


def load(path: Path, metric: Metric, gallery: int) -> Searchable:
    """The index of a file, mapped into memory rather than read; raises as `faiss_file.load`."""
    if not _is_archive(path):
        return faiss_file.load(path, metric, gallery)
    mapped = np.memmap(path, np.uint8, "r")
    entries = _entries(path)
    try:
        index = PartedIndex(tuple(opened(mapped[start : start + size]) for start, size in entries))
    except RuntimeError:
        raise faiss_file.damaged(path) from None
    for part in index.parts:
        faiss_file.check_matches(path, part.metric_type, index.ntotal, metric, gallery)
    return index


def opened(data: Bytes) -> faiss.Index:
    """The FAISS index of some bytes, which it goes on to use: it holds no copy of the vectors."""
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(data), data.size)  # type: ignore[attr-defined]
    index = faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)
    index.referenced_objects = [data]  # type: ignore[attr-defined]
    return index


def open_file(path: Path, metric: Metric, gallery: int, part_rows: int | None) -> IndexFile:
    """An index and its parts: those that were built, or stretches of at most `part_rows` images.

    An index in one piece that is not a flat one of float32 vectors is a single part.

    Args:
        gallery: how many images the index must hold.
    Raises:
        UserError: as `load`.
    """
    index = load(path, metric, gallery)
    if isinstance(index, PartedIndex):
        return IndexFile(index, _parts(path, starts(gallery, len(index.parts)), _entries(path)))
    size = path.stat().st_size
    if not isinstance(index, faiss.IndexFlat):
        return IndexFile(index, _parts(path, [0, gallery], [(0, size)]))
    bounds = starts(gallery, number_of_parts(gallery, part_rows))
    first = size - gallery * index.code_size
    stretches = [
        (first + start * index.code_size, (end - start) * index.code_size) for start, end in pairwise(bounds)
    ]
    with path.open("rb") as file:
        header = file.read(first)
    headers = [_flat_header(header, images, index.d) for images in _sizes(bounds)]
    return IndexFile(index, _parts(path, bounds, stretches, headers))


def _parts(
    path: Path, bounds: Sequence[int], stretches: Sequence[tuple[int, int]], headers: Sequence[bytes] = ()
) -> list[Part]:
    return [
        Part(path, number, bounds[number], images, *stretches[number], headers[number] if headers else b"")
        for number, images in enumerate(_sizes(bounds))
    ]


def _sizes(bounds: Sequence[int]) -> list[int]:
    return [end - start for start, end in pairwise(bounds)]


def _flat_header(header: bytes, images: int, dim: int) -> bytes:
    """The header of a flat index with another number of images; its format is in `flat_index.build_file`."""
    return header[:8] + struct.pack("<q", images) + header[16:-8] + struct.pack("<Q", images * dim)


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ARCHIVE_BEGINS_WITH)) == _ARCHIVE_BEGINS_WITH
    except OSError:
        return False  # `faiss_file.load` says what is wrong


def _entries(path: Path) -> list[tuple[int, int]]:
    """Where an archive has the bytes of each entry, and how many there are."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            return [(_first_byte(file, entry), entry.file_size) for entry in archive.infolist()]
    except zipfile.BadZipFile:
        raise faiss_file.damaged(path) from None


def _first_byte(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Behind the entry's header, its name and its extra field, whose lengths the header ends with."""
    file.seek(entry.header_offset)
    lengths = struct.unpack("<HH", file.read(_BYTES_OF_ENTRY_HEADER)[-4:])
    return entry.header_offset + _BYTES_OF_ENTRY_HEADER + sum(lengths)
