"""labels.csv and qrels.csv as a user wrote them: every fault is told with its line and the nearest fix."""

from __future__ import annotations

import csv
import difflib
import re
import sqlite3
import stat
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TextIO

from lineup.errors import UserError, suggest

_MOST_COMPARED = 5_000  # names, for a suggestion
_LONGEST_LINE = 2**20  # characters
_MOST_EMPTY_ROWS = 2**20  # as many as a spreadsheet has


class Names:
    """Finds the file that a CSV means, in whatever Unicode form and with whichever slashes it was written."""

    def __init__(self, register: sqlite3.Connection, root: Path) -> None:
        self._register, self._root = register, root

    def find(self, text: str, place: str) -> str:
        """The name on disk. Raises UserError (beginning with `place`) if there is none or more than one."""
        if self._register.execute("SELECT 1 FROM file WHERE path = ?", (text,)).fetchone():
            return text
        slashed = text.strip().replace("\\", "/")
        parts = [part for part in slashed.split("/") if part not in ("", ".")]
        if not parts:
            raise UserError(f"{place}: has no path; fill it in or remove the line")
        if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
            raise UserError(
                f"{place}: {text!r} is outside {self._root}; write paths relative to it, as test/query/photo.jpg"
            )
        name = unicodedata.normalize("NFC", "/".join(parts))
        found = self._register.execute(
            "SELECT path FROM file WHERE path = ? OR normal = ?", (name, name)
        ).fetchall()
        if len(found) == 1:
            return found[0][0]
        if found:
            raise UserError(
                f"{place}: {text!r} could be any of {len(found)} files whose names look alike; rename them"
            )
        if self._exists(parts):
            raise UserError(
                f"{place}: {text!r} is no photo: it is hidden, or outside train/, test/query/ and test/gallery/"
            )
        raise UserError(f"{place}: {text!r} is not in {self._root}{self._suggestion(name)}")

    def _exists(self, parts: list[str]) -> bool:
        try:
            return self._root.joinpath(*parts).exists()
        except (OSError, ValueError):  # too long for a name, or a zero byte
            return False

    def _suggestion(self, name: str) -> str:
        """The nearest file: of the same file name, else of the same stem, else in the same folder."""
        wanted = PurePosixPath(name)
        for alike in (
            lambda path: path.name.casefold() == wanted.name.casefold(),
            lambda path: path.stem.casefold() == wanted.stem.casefold(),
            lambda path: path.parent == wanted.parent,
            lambda path: True,
        ):
            known = self._register.execute("SELECT coalesce(normal, path) FROM file ORDER BY path")
            compared = islice((path for (path,) in known if alike(PurePosixPath(path))), _MOST_COMPARED)
            close = difflib.get_close_matches(name, list(compared), n=1, cutoff=0.4)
            if close:
                return f"; did you mean '{close[0]}'?"
        return ""


def normal_label(text: str) -> str | None:
    """macOS decomposes accents in folder names; one identity must stay one label. None if nothing is left."""
    return unicodedata.normalize("NFC", text).strip() or None


def read_labels(register: sqlite3.Connection, root: Path) -> None:
    """labels.csv decides the labels of the files that it names, also where it leaves one empty (unknown).

    Nothing without it.
    """
    path, names = root / "labels.csv", Names(register, root)
    for line, (name, label) in _rows(path, ("path", "label")):
        found = names.find(name, f"{path}: line {line}")
        (earlier,) = register.execute("SELECT label_line FROM file WHERE path = ?", (found,)).fetchone()
        if earlier is not None:
            raise UserError(
                f"{path}: line {line}: {name!r} was already in line {earlier}; remove one of the two"
            )
        register.execute(
            "UPDATE file SET label = ?, label_line = ? WHERE path = ?", (normal_label(label), line, found)
        )


def read_judgements(register: sqlite3.Connection, root: Path) -> int | None:
    """Takes in the lines of qrels.csv, with names as they are on disk.

    How many there are, None without the file.
    """
    path, names, count = root / "qrels.csv", Names(register, root), 0
    if not path.exists() and not path.is_symlink():
        return None
    for line, (query, gallery, relevance) in _rows(path, ("query", "gallery", "relevance")):
        place = f"{path}: line {line}"
        if relevance.strip() not in ("1", "0", "-1"):
            raise UserError(
                f"{place}: relevance is {relevance!r}; it must be 1 (relevant), 0 (not) or -1 (junk)"
            )
        found = {"query": names.find(query, place), "gallery": names.find(gallery, place)}
        for column, name in found.items():
            (split,) = register.execute("SELECT split FROM file WHERE path = ?", (name,)).fetchone()
            if split != column:
                raise UserError(
                    f"{place}: {name!r} is in {split}, not in {column}; the columns are query,gallery,relevance"
                )
        register.execute("INSERT INTO judgement VALUES (?, ?, ?, ?)", (line, *found.values(), int(relevance)))
        count += 1
    return count


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, the values of `columns`) of a CSV file with a header.

    Other columns are left alone. Nothing without the file.
    """
    if not _is_file(path):
        return
    try:
        stream = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); mend its permissions or remove it"
        ) from None
    with stream:
        reader = csv.reader(_lines(stream, path), strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            places = _places(columns, header, path)
            for row in _filled(reader, path):
                if len(row) != len(header):
                    fix = "put a value that holds a comma into double quotes"
                    raise UserError(
                        f"{path}: line {reader.line_num}: has {len(row)} values, the header {len(header)}; {fix}"
                    )
                yield reader.line_num, tuple(row[place] for place in places)
        except csv.Error as error:
            raise UserError(f"{path}: line {reader.line_num}: is not valid CSV ({error})") from None


def _is_file(path: Path) -> bool:
    """False if nothing is there.

    UserError for what can't be read to its end, as a pipe, which would wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path}: is a broken link") from None
        return False
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); mend or remove it") from None
    if not stat.S_ISREG(mode):
        kind = (
            "a folder"
            if stat.S_ISDIR(mode)
            else "a pipe"
            if stat.S_ISFIFO(mode)
            else "a socket"
            if stat.S_ISSOCK(mode)
            else "a device"
        )
        raise UserError(f"{path}: is {kind}; put a CSV file in its place, or remove it")
    return True


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file, of which none is held that has no end."""
    try:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE:
                raise UserError(
                    f"{path}: line {number}: is longer than {_LONGEST_LINE:,} characters; end each row with a line break"
                )
            yield line
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: line {_line_of_other_encoding(path)}: is not UTF-8; save the file as 'CSV UTF-8'"
        ) from None


def _line_of_other_encoding(path: Path) -> int:
    """The first line that is not UTF-8: a stream decodes ahead of the lines that it gives."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _filled(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """Rows with a value at least.

    UserError where more empty ones follow each other than a spreadsheet has.
    """
    empty = 0
    for row in reader:
        if any(cell.strip() for cell in row):
            empty = 0
            yield row
        elif (empty := empty + 1) > _MOST_EMPTY_ROWS:
            raise UserError(f"{path}: holds more than {_MOST_EMPTY_ROWS:,} empty lines in a row; remove them")


def _places(columns: tuple[str, ...], header: list[str], path: Path) -> list[int]:
    for column in columns:
        if header.count(column) != 1:
            twice = column in header
            fault = (
                f"the column '{column}' twice; remove one"
                if twice
                else f"no column '{column}'{_hint(column, header)}"
            )
            raise UserError(f"{path}: line 1: has {fault}; the header is {','.join(columns)}")
    return [header.index(column) for column in columns]


def _hint(column: str, header: list[str]) -> str:
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f" (values are separated by {word}; save it with commas)"
    return suggest(column, header) if any(header) else " (it is empty)"
