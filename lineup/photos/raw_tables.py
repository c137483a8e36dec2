"""Reads labels.csv and qrels.csv as a user wrote them; each fault names its line and the nearest fix."""

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

_MAX_COMPARED_NAMES = 5_000
_MAX_LINE_CHARACTERS = 2**20
_MAX_EMPTY_ROWS = 2**20  # The number of rows of a spreadsheet.


class Names:
    """Finds the file that a table names, in any Unicode form and with either kind of slash."""

    def __init__(self, register: sqlite3.Connection, root: Path) -> None:
        self._register, self._root = register, root

    def find(self, text: str, source: str) -> str:
        """The file's name on disk.

        Args:
            text: as the table has it.
            source: the file and line; an error begins with it.
        Raises:
            UserError: no file has the name, or several do.
        """
        name = self.resolve(text, source)
        if name is None:
            raise self.missing(text, source)
        return name

    def resolve(self, text: str, source: str) -> str | None:
        """As `find`, but None if no file has the name."""
        if self._register.execute("SELECT 1 FROM file WHERE path = ?", (text,)).fetchone():
            return text
        slashed = text.strip().replace("\\", "/")
        parts = self._parts(text)
        if not parts:
            raise UserError(f"{source}: has no path; fill it in or remove the line")
        if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
            raise UserError(
                f"{source}: {text!r} is outside {self._root}; write paths relative to it, "
                "as test/query/photo.jpg"
            )
        name = self._normal(parts)
        matches = self._register.execute(
            "SELECT path FROM file WHERE path = ? OR normal = ?", (name, name)
        ).fetchall()
        if len(matches) == 1:
            return matches[0][0]
        if matches:
            raise UserError(
                f"{source}: {text!r} could be any of {len(matches)} files whose names look alike; rename them"
            )
        if self._exists(parts):
            raise UserError(
                f"{source}: {text!r} is not a photo: it is hidden, "
                "or outside train/, test/query/ and test/gallery/"
            )
        return None

    def missing(self, text: str, source: str) -> UserError:
        """Why no file has the name, with the most similar one."""
        suggestion = self._suggestion(self._normal(self._parts(text)))
        return UserError(f"{source}: {text!r} is not in {self._root}{suggestion}")

    @staticmethod
    def _parts(text: str) -> list[str]:
        return [part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".")]

    @staticmethod
    def _normal(parts: list[str]) -> str:
        return unicodedata.normalize("NFC", "/".join(parts))

    def _exists(self, parts: list[str]) -> bool:
        try:
            return self._root.joinpath(*parts).exists()
        except (OSError, ValueError):  # It is too long for a name, or has a zero byte.
            return False

    def _suggestion(self, name: str) -> str:
        """Names the most similar file: of the same name, else of the same stem, else in the same folder."""
        wanted = PurePosixPath(name)
        for alike in (
            lambda path: path.name.casefold() == wanted.name.casefold(),
            lambda path: path.stem.casefold() == wanted.stem.casefold(),
            lambda path: path.parent == wanted.parent,
            lambda path: True,
        ):
            known = self._register.execute("SELECT coalesce(normal, path) FROM file ORDER BY path")
            compared = islice((path for (path,) in known if alike(PurePosixPath(path))), _MAX_COMPARED_NAMES)
            close = difflib.get_close_matches(name, list(compared), n=1, cutoff=0.4)
            if close:
                return f"; did you mean '{close[0]}'?"
        return ""


def normal_label(text: str) -> str | None:
    """A label in Unicode's form NFC, without spaces around it; None if nothing is left.

    macOS decomposes accents in folder names, and one identity must have one label.
    """
    return unicodedata.normalize("NFC", text).strip() or None


def read_labels(register: sqlite3.Connection, root: Path) -> None:
    """Sets the labels of the files that labels.csv names, to unknown where it leaves a label empty.

    Without the file nothing is set.

    Raises:
        UserError: the file has a fault.
    """
    path, names = root / "labels.csv", Names(register, root)
    for line, (name, label) in _rows(path, ("path", "label")):
        photo = names.find(name, f"{path}: line {line}")
        (earlier,) = register.execute("SELECT label_line FROM file WHERE path = ?", (photo,)).fetchone()
        if earlier is not None:
            raise UserError(
                f"{path}: line {line}: {name!r} was already in line {earlier}; remove one of the two"
            )
        register.execute(
            "UPDATE file SET label = ?, label_line = ? WHERE path = ?", (normal_label(label), line, photo)
        )


def read_judgements(register: sqlite3.Connection, root: Path) -> int | None:
    """Adds the lines of qrels.csv to the register, with names as they are on disk.

    Returns:
        The number of judgements; None if the file does not exist.
    Raises:
        UserError: the file has a fault.
    """
    path, names, count = root / "qrels.csv", Names(register, root), 0
    if not path.exists() and not path.is_symlink():
        return None
    for line, (query, gallery, relevance) in _rows(path, ("query", "gallery", "relevance")):
        source = f"{path}: line {line}"
        if relevance.strip() not in ("1", "0", "-1"):
            raise UserError(
                f"{source}: relevance is {relevance!r}; it must be 1 (relevant), 0 (not) or -1 (junk)"
            )
        pair = {"query": names.find(query, source), "gallery": names.find(gallery, source)}
        for column, name in pair.items():
            (split,) = register.execute("SELECT split FROM file WHERE path = ?", (name,)).fetchone()
            if split != column:
                raise UserError(
                    f"{source}: {name!r} is in {split}, not in {column}; "
                    "the columns are query,gallery,relevance"
                )
        register.execute("INSERT INTO judgement VALUES (?, ?, ?, ?)", (line, *pair.values(), int(relevance)))
        count += 1
    return count


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, the values of `columns`) of each row of a CSV file with a header; none if it does not exist.

    Other columns are ignored.
    """
    rows = lines(path)
    for _, header in islice(rows, 1):
        positions = _column_positions(columns, header, path)
        for line, row in rows:
            yield line, tuple(row[position] for position in positions)


def lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of a CSV file's header, which may be empty, and of each row; none if it does not exist.

    Raises:
        UserError: the file has a fault.
    """
    if not _is_file(path):
        return
    try:
        stream = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); fix its permissions or remove it"
        ) from None
    with stream:
        reader = csv.reader(_lines(stream, path), strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            yield 1, header
            for row in _skip_empty(reader, path):
                if len(row) != len(header):
                    raise UserError(
                        f"{path}: line {reader.line_num}: has {len(row)} values, the header {len(header)}; "
                        "put a value that has a comma into double quotes"
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise UserError(f"{path}: line {reader.line_num}: is not valid CSV ({error})") from None


def _is_file(path: Path) -> bool:
    """Whether the path is a file; False if it does not exist.

    Raises:
        UserError: it is something else. Reading a pipe, for one, would wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path}: is a broken link") from None
        return False
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); fix or remove it") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise UserError(f"{path}: is {kind}; put a CSV file in its place, or remove it")
    return True


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file; a line that does not end is refused before it fills the memory."""
    try:
        for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE_CHARACTERS), ""), 1):
            if len(line) == _MAX_LINE_CHARACTERS:
                raise UserError(
                    f"{path}: line {number}: is longer than {_MAX_LINE_CHARACTERS:,} characters; "
                    "end each row with a line break"
                )
            yield line
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: line {_line_of_other_encoding(path)}: is not UTF-8; save the file as 'CSV UTF-8'"
        ) from None


def _line_of_other_encoding(path: Path) -> int:
    """The number of the first line that is not UTF-8; a text stream decodes further ahead than it reads."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _skip_empty(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """The rows that have a value.

    Raises:
        UserError: more empty rows follow each other than a spreadsheet has.
    """
    empty = 0
    for row in reader:
        if any(cell.strip() for cell in row):
            empty = 0
            yield row
        elif (empty := empty + 1) > _MAX_EMPTY_ROWS:
            raise UserError(f"{path}: holds more than {_MAX_EMPTY_ROWS:,} empty lines in a row; remove them")


def _column_positions(columns: tuple[str, ...], header: list[str], path: Path) -> list[int]:
    """Where in a row each of the columns is. Raises UserError if one is missing or repeated."""
    for column in columns:
        if header.count(column) != 1:
            fault = (
                f"the column '{column}' twice; remove one"
                if column in header
                else f"no column '{column}'{hint(column, header)}"
            )
            raise UserError(f"{path}: line 1: has {fault}; the header is {','.join(columns)}")
    return [header.index(column) for column in columns]


def hint(column: str, header: list[str]) -> str:
    """The end of a sentence about a column that a header lacks: what may be there instead."""
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f" (values are separated by {word}; save it with commas)"
    return suggest(column, header) if any(header) else " (it is empty)"
