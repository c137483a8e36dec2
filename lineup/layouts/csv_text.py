"""Reads CSV by any of four separators, in UTF-8, UTF-16 or Windows-1252, whoever wrote it.

csv.Sniffer is not used: it guesses a separator from characters that repeat, and takes them from descriptions.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError, explained, reason

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_ROWS_COMPARED = 200
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # It begins like that of UTF-16.
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class CsvTable(NamedTuple):
    """columns: name -> its cells; lines: where each row begins; separator: in words, "semicolons"."""

    columns: dict[str, list[str]]
    lines: list[int]
    separator: str


class _Dialect(NamedTuple):
    """How values are separated. escape: the character before a quote within quotes; None if it is doubled."""

    separator: str
    escape: str | None


def decode(path: Path, content: bytes) -> tuple[str, str]:
    """The text of a file, and the name of its encoding. Raises UserError if it is not text."""
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), None)
    if encoding:
        name = encoding.removesuffix("-sig").upper()
        with explained(f"{path}: begins as {name} and is not", "save it as 'CSV UTF-8'"):
            return content.decode(encoding), name
    if b"\x00" in content:
        raise UserError(f"{path}: is not text, or is UTF-16 without a mark; save it as 'CSV UTF-8'")
    with suppress(UnicodeDecodeError):
        return content.decode(), "UTF-8"
    text = content.decode("utf-8", "surrogateescape")
    foreign = sum("\udc80" <= character <= "\udcff" for character in text)
    # A text in Windows-1252 that happens to hold valid UTF-8 has little of it.
    if sum(character > "\x7f" for character in text) > 2 * foreign:
        line = text[: next(i for i, c in enumerate(text) if "\udc80" <= c <= "\udcff")].count("\n") + 1
        raise UserError(f"{path}: line {line}: is not UTF-8, as the lines before it are; correct it")
    try:
        return content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        raise UserError(f"{path}: is neither UTF-8 nor Windows-1252; save it as 'CSV UTF-8'") from None


def read(path: Path, text: str, wanted: Collection[str]) -> CsvTable:
    """The table in a text.

    Args:
        path: for errors.
        wanted: columns that the user named; they help to tell the separator.
    Raises:
        UserError: it is not valid CSV.
    """
    first_line, declared = 1, None
    if text[:4].lower() == "sep=" and text[5:6] in ("\r", "\n"):  # Excel writes it and hides it.
        declared, text, first_line = text[4], text[5:].removeprefix("\r").removeprefix("\n"), 2
    dialect = _find_dialect(text, declared, wanted)
    try:
        reader = _rows(text, dialect, first_line)
        header = next((row for _, row in reader), [])
        names = column_names(header)
        cells: list[list[str]] = []
        lines: list[int] = []
        for line, row in reader:
            while len(row) > len(names) and not row[-1].strip():
                row.pop()
            if len(row) > len(names):
                raise UserError(
                    f"{path}: line {line}: has {len(row)} values, and the header "
                    f"{len(names)}; put a value that has a separator into double quotes"
                )
            # Excel leaves out empty values at the end of a row.
            cells.append(row + [""] * (len(names) - len(row)))
            lines.append(line)
    except csv.Error as error:
        raise UserError(f"{path}: is not valid CSV ({_explain(error)}); correct its quotes") from None
    columns = {
        name: values
        for number, name in enumerate(names)
        # A line may end with a separator.
        if any(map(str.strip, values := [row[number] for row in cells])) or header[number].strip()
    }
    return CsvTable(columns, lines, _SEPARATORS.get(dialect.separator, repr(dialect.separator)))


def _rows(text: str, dialect: _Dialect, first_line: int = 1) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, values) of each row that is not empty. Raises csv.Error."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.separator,
        doublequote=dialect.escape is None,
        escapechar=dialect.escape,
        skipinitialspace=True,
        strict=True,
    )
    line = first_line
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield line, row
            line = first_line + reader.line_num
    except csv.Error as error:
        raise csv.Error(f"line {line}: {error}") from None


def _find_dialect(text: str, declared: str | None, wanted: Collection[str]) -> _Dialect:
    """The dialect by which the first rows have the header's width, and the header the wanted columns.

    Args:
        declared: the separator of a line "sep=;".
    """
    escapes = (None, "\\") if '\\"' in text else (None,)
    dialects = [_Dialect(s, escape) for escape in escapes for s in (declared or _SEPARATORS)]

    def fitness(dialect: _Dialect) -> tuple[int, bool, bool, float, int]:
        rows, is_valid = [], True
        try:
            rows.extend(row for _, row in islice(_rows(text, dialect), _ROWS_COMPARED))
        except csv.Error:
            is_valid = False
        header = [name.strip() for name in rows[0]] if rows else []
        fitting = sum(len(row) == len(header) for row in rows[1:]) / max(1, len(rows) - 1)
        return sum(name in header for name in wanted), len(header) > 1, is_valid, fitting, len(header)

    return max(dialects, key=fitness)


def _explain(error: csv.Error) -> str:
    text = reason(error)
    return text.replace("unexpected end of data", "a quote is opened and not closed")


def column_names(header: Sequence[str]) -> list[str]:
    """The header's names, with numbers for those that are empty or repeated."""
    names: list[str] = []
    for number, cell in enumerate(header, 1):
        name = " ".join(cell.split()) or f"column {number}"
        names.append(f"{name} ({number})" if name in names else name)
    return names
