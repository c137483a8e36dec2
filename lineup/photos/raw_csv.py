"""Reads a CSV file that a user put into data/raw; each fault names its line and the nearest fix."""

from __future__ import annotations

import csv
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from lineup.errors import UserError, suggest

_MAX_LINE_CHARACTERS = 2**20
_MAX_EMPTY_ROWS = 2**20  # The number of rows of a spreadsheet.


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
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
