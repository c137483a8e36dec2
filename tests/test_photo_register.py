"""photo_register.py: the images of a part against a naive grouping; memory, order and a full disk."""

from __future__ import annotations

import errno
import hashlib
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineup.photos import (
    duplicates,
    part_tables,
    photo_register,
    preparation,
    preparation_summary,
    registration,
)
from lineup.photos.image_cache import FileRecord
from lineup.photos.photo_register import Image
from tests.support.project import ROOT

SPLITS = st.sampled_from(duplicates.SPLITS)
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)
PHOTOS = st.dictionaries(
    PATHS, st.tuples(SPLITS, st.integers(0, 5), st.sampled_from([None, "é", "\U0001f600"])), max_size=12
)


def fill(register: sqlite3.Connection, files: Iterable[tuple[str, str, str | None]]) -> None:
    register.executemany("INSERT INTO file (path, split, label) VALUES (?, ?, ?)", files)


def facts(number: int) -> FileRecord:
    """Every second image shows the picture of the one before it."""
    prepared_id = f"prepared {number}" if number % 3 == 0 else ""
    return FileRecord(f"image {number}", f"pixels {number // 2}", number, 2 * number, "PNG", prepared_id)


@pytest.mark.slow
@given(PHOTOS, st.randoms())
def test_images_are_what_a_naive_grouping_gives(
    photos: dict[str, tuple[str, int, str | None]], random: Random
) -> None:
    examined = [(path, facts(number)) for path, (_, number, _) in photos.items()]
    random.shuffle(examined)
    with photo_register.temporary() as register:
        fill(register, ((path, split, label) for path, (split, _, label) in photos.items()))
        registration.assemble(register, examined)
        for part, splits in (("train", {"train"}), ("test", {"query", "gallery"})):
            of_part = {path: photo for path, photo in photos.items() if photo[0] in splits}
            labels: dict[int, set[str]] = {}
            for _, number, label in of_part.values():
                labels.setdefault(number // 2, set()).update({label} - {None})  # type: ignore[arg-type]
            expected = []
            for number, split in sorted({(number, split) for split, number, _ in of_part.values()}):
                paths = sorted(path for path, photo in of_part.items() if photo[:2] == (split, number))
                own = {of_part[path][2] for path in paths} - {None}
                label = own.pop() if own and len(labels[number // 2]) == 1 else None
                fact = facts(number)
                known = (fact.pixels_id, fact.width, fact.height, fact.format, fact.prepared_id or None)
                expected.append(Image(fact.image_id, split, label, paths, *known))
            assert list(photo_register.images(register, part)) == expected
            assert photo_register.count_images(register, part) == len(expected)


def peak_bytes(count: int) -> int:
    """Of what Python holds while it takes in `count` photos and gives their rows."""

    def digest(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()

    def examined(names: Iterable[tuple[str]]) -> Iterator[tuple[str, FileRecord]]:
        for (path,) in names:
            yield (
                path,
                FileRecord(digest(path), digest(path[:-1]), 1, 1, "PNG")
                if path[-1] != "7"
                else FileRecord("", problem="is bad"),
            )

    with photo_register.temporary() as register:
        tracemalloc.start()
        fill(register, ((f"gallery/{number:06}", "gallery", f"label {number}") for number in range(count)))
        registration.assemble(register, examined(register.execute("SELECT path FROM file ORDER BY path")))
        assert duplicates.note_contradictions(register) == count // 10 * 8
        assert sum(1 for _ in part_tables.manifest(register, "test")) == count // 10 * 9
        assert sum(1 for _ in duplicates.leaks(register)) == count // 10 * 8
        list(preparation_summary.summary(register, 0, 512, preparation.of_raw()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_python_holds_nothing_of_a_photo() -> None:
    peak_bytes(100)  # what is imported and compiled once
    assert peak_bytes(10_000) < 300_000  # their paths alone would be 650,000


def test_a_full_disk_is_told_as_such() -> None:
    with pytest.raises(OSError, match="SQLITE_TMPDIR") as told, photo_register.temporary() as register:
        register.execute("PRAGMA max_page_count = 40")
        fill(register, ((f"{number:0200}", "gallery", None) for number in range(10_000)))
    assert told.value.errno == errno.ENOSPC


def test_other_faults_of_the_database_are_bugs_and_stay_what_they_are() -> None:
    with (
        pytest.raises(sqlite3.OperationalError, match="no such table"),
        photo_register.temporary() as register,
    ):
        register.execute("SELECT 1 FROM missing")


@pytest.mark.slow
def test_a_limit_on_its_file_is_told() -> None:
    code = """
import resource, sys
from lineup import cli
from lineup.photos import photo_register
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    with photo_register.temporary() as register:
        rows = ((f"{number:0200}", "gallery", None) for number in range(200_000))
        register.executemany("INSERT INTO file (path, split, label) VALUES (?, ?, ?)", rows)
cli.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: SQLite's temporary file can't be written;")
        and done.stderr.count("\n") == 1
    )
