"""Pass 1 of preprocess: examines every file of a folder, and enters the readable ones into the register.

Before it, the register has the files' names, splits and labels (table `file`). After it, it also has the
photos that they hold (`photo`), what is wrong with the others (`problem`), and which of them are equal
(`leak`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from lineup import cluster, machine, paths
from lineup.errors import UserError
from lineup.photos import cluster_scan, duplicates, raw_folder
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.image_cache import FileRecord
from lineup.photos.photo_register import add_problem, scalar
from lineup.photos.scan import scan_files

log = logging.getLogger(__name__)

_MAX_SHOWN_PROBLEMS = 3


def register_photos(
    register: sqlite3.Connection, root: Path, attributes: AttributeCache, on_bad_image: str
) -> None:
    """Adds every readable photo of the register's files.

    Args:
        root: the folder that names are relative to.
        attributes: gets the attributes of the test's photos.
        on_bad_image: preprocess.on_bad_image.
    Raises:
        UserError: bad images must not be skipped, or without them a split of the test is empty.
    """
    names = (path for (path,) in register.execute("SELECT path FROM file ORDER BY path"))
    count = scalar(register, "SELECT count(*) FROM file")
    assemble(register, _scanned(attributes, root, names, count))
    _check(register, root, on_bad_image)


def _scanned(
    attributes: AttributeCache, root: Path, names: Iterator[str], count: int
) -> Iterator[tuple[str, FileRecord]]:
    """(name, record) of every file: from the Ray cluster where its nodes see the photos, else from here."""
    if cluster.address():
        ray = cluster.connect()
        size = cluster.describe(ray)
        first = [*islice(names, 1)]
        names = chain(first, names)
        if first and cluster_scan.all_nodes_see(ray, size, root / first[0], paths.CACHE):
            log.info("examining the photos on the Ray cluster: %s", size.described())
            return cluster_scan.scan_files(ray, size, attributes, root, names, count)
        log.info(
            "not every node of the Ray cluster sees %s and %s under their paths here: examining the photos "
            "on this machine",
            root,
            paths.CACHE,
        )
    return scan_files(attributes, root, names, count, machine.threads())


def assemble(register: sqlite3.Connection, records: Iterable[tuple[str, FileRecord]]) -> None:
    """Joins names and labels with the files' records, which may come in any order, and finds leaks.

    Args:
        records: (name, record) of every file.
    """

    def readable() -> Iterator[tuple[object, ...]]:
        for name, record in records:
            if record.problem:
                add_problem(register, name, record.problem, skipped=True)
            else:
                if record.note:
                    add_problem(register, name, record.note)
                yield (
                    record.image_id,
                    record.pixels_id,
                    record.width,
                    record.height,
                    record.format,
                    record.prepared_id or None,
                    name,
                )

    register.executemany(
        "INSERT INTO photo SELECT path, split, label, ?, ?, ?, ?, ?, ? FROM file WHERE path = ?", readable()
    )
    duplicates.find_leaks(register)


def _check(register: sqlite3.Connection, root: Path, on_bad_image: str) -> None:
    """Raises UserError if bad images must not be skipped, or if without them a split of the test is empty."""
    if on_bad_image == "fail" and scalar(register, "SELECT count(*) FROM problem WHERE skipped"):
        bad = _first_skipped(register, root, raw_folder.SPLITS)
        raise UserError(f"{bad}; fix or remove what is bad, or set preprocess.on_bad_image to 'skip'")
    for folder, split in raw_folder.SPLITS.items():
        if split != "train" and not scalar(
            register, "SELECT EXISTS (SELECT 1 FROM photo WHERE split = ?)", split
        ):
            raise UserError(f"no {split} photo can be read: {_first_skipped(register, root, (folder,))}")


def _first_skipped(register: sqlite3.Connection, root: Path, folders: Iterable[str]) -> str:
    """The first problems of files, and of folders that can't be listed, below some folders."""
    patterns = [f"{folder}/%" for folder in folders]
    inside = f"FROM problem WHERE skipped AND ({' OR '.join(['path LIKE ?'] * len(patterns))})"
    more = scalar(register, f"SELECT count(*) {inside}", *patterns) - _MAX_SHOWN_PROBLEMS
    first = register.execute(
        f"SELECT path, problem {inside} ORDER BY path LIMIT {_MAX_SHOWN_PROBLEMS}", patterns
    )
    return "; ".join(f"{root / path} {problem}" for path, problem in first) + (
        f"; and {more} more" if more > 0 else ""
    )
