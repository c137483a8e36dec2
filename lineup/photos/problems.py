"""The problems of a folder of photos: files that were skipped, used with a note, or left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lineup.errors import printable
from lineup.photos.photo_register import scalar

COLUMNS = ("path", "problem")
# What is printed of each kind of problem, and the rows of the register's table `problem` that are of it.
_KINDS = {
    "files skipped": "skipped",
    "used, with a note": "NOT skipped AND NOT unread",
    "left alone": "unread",
}
_MAX_SHOWN_PROBLEMS = 3
_MAX_NAME_CHARACTERS, _MAX_REASON_CHARACTERS = 100, 200


def rows(register: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Rows of problems.csv, sorted."""
    return register.execute("SELECT path, problem FROM problem ORDER BY path, problem")


def summary(register: sqlite3.Connection, file: Path) -> Iterator[str]:
    """A line for each kind of problem: their number, the most frequent ones, and the first ones.

    Args:
        file: the table of all problems.
    """
    for kind, condition in _KINDS.items():
        chosen = f"FROM problem WHERE {condition}"
        if not (count := scalar(register, f"SELECT count(*) {chosen}")):
            continue
        frequent = register.execute(
            f"SELECT count(*), problem {chosen} GROUP BY problem HAVING count(*) > 1 "
            f"ORDER BY count(*) DESC, min(path) LIMIT {_MAX_SHOWN_PROBLEMS}"
        )
        reasons = (
            "; ".join(
                f"{times:,} {printable(problem, _MAX_REASON_CHARACTERS)}" for times, problem in frequent
            )
            if count > _MAX_SHOWN_PROBLEMS
            else ""
        )
        first = register.execute(
            f"SELECT path, problem {chosen} ORDER BY path, problem LIMIT {_MAX_SHOWN_PROBLEMS}"
        )
        shown = "; ".join(
            f"{printable(path, _MAX_NAME_CHARACTERS)} {printable(problem, _MAX_REASON_CHARACTERS)}"
            for path, problem in first
        )
        more = f"; and {count - _MAX_SHOWN_PROBLEMS:,} more" if count > _MAX_SHOWN_PROBLEMS else ""
        yield f"{kind}: {count:,}{f' ({reasons})' if reasons else ''}: {shown}{more}"
    if scalar(register, "SELECT EXISTS (SELECT 1 FROM problem)"):
        yield f"{file} names each of these"
