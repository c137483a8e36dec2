"""Reads a table that a shop system, a spreadsheet or a notebook wrote, and says how it was written.

CSV with any of four separators, in UTF-8, UTF-16 or Windows-1252; Parquet; JSON lines; a JSON array.
csv.Sniffer is not used: it guesses separators from letters that repeat, and fails on descriptions.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from lineup.errors import UserError, explained, naming, reason

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_ROWS_COMPARED = 200
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # It begins like that of UTF-16.
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_FORMATS = {b"PK\x03\x04": "an Excel workbook or a ZIP", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_JOINED_BY = "|"


@dataclass(frozen=True)
class TableFile:
    """A table as texts.

    Attributes:
        columns: name -> its cells, "" where there is none; all of one length.
        lines: where each row begins in the file, from 1.
        unit: what `lines` count: "line" of a text, or "row" of Parquet or of a JSON array.
        form: how the file is written: "values separated by semicolons, in Windows-1252".
    """

    path: Path
    columns: dict[str, list[str]]
    lines: Sequence[int]
    unit: str
    form: str

    def where(self, row: int) -> str:
        """The place of a row, counted from 0, for an error: "products.csv: line 3"."""
        return f"{self.path}: {self.unit} {self.lines[row]}"


class _Dialect(NamedTuple):
    """How values are separated. escape: the character before a quote within quotes; None if it is doubled."""

    separator: str
    escape: str | None


def read(path: Path, wanted: Collection[str] = ()) -> TableFile:
    """The table in a file, whose content says what it is.

    Args:
        wanted: columns that the user named; they help to tell the separator.
    Raises:
        UserError: it does not exist, is of another format, or has a fault.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}; name a table")
    with naming(path):
        content = path.read_bytes()
    for start, kind in _OTHER_FORMATS.items():
        if content.startswith(start):
            raise UserError(f"{path}: is {kind}; save the sheet as 'CSV UTF-8'")
    for start, kind in _COMPRESSED.items():
        if content.startswith(start):
            raise UserError(f"{path}: is compressed ({kind}); unpack it")
    if content.startswith(b"PAR1"):
        table = _read_parquet(path, content)
    else:
        text, encoding = _decode(path, content)
        is_json = path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "[")
        table = _read_json(path, text) if is_json else _read_csv(path, text, encoding, wanted)
    if not table.columns:
        raise UserError(f"{path}: is empty; it needs a header and a row for each photo")
    if not table.lines:
        raise UserError(f"{path}: has a header and no rows; it needs a row for each photo")
    return table


def _decode(path: Path, content: bytes) -> tuple[str, str]:
    """The text, and the name of its encoding."""
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


def _read_csv(path: Path, text: str, encoding: str, wanted: Collection[str]) -> TableFile:
    first_line, declared = 1, None
    if text[:4].lower() == "sep=" and text[5:6] in ("\r", "\n"):  # Excel writes it and hides it.
        declared, text, first_line = text[4], text[5:].removeprefix("\r").removeprefix("\n"), 2
    dialect = _find_dialect(text, declared, wanted)
    try:
        reader = _rows(text, dialect)
        header = next((row for _, row in reader), [])
        names = _column_names(header)
        cells: list[list[str]] = []
        lines: list[int] = []
        for line, row in reader:
            while len(row) > len(names) and not row[-1].strip():
                row.pop()
            if len(row) > len(names):
                raise UserError(
                    f"{path}: line {line + first_line - 1}: has {len(row)} values, and the header "
                    f"{len(names)}; put a value that has a separator into double quotes"
                )
            # Excel leaves out empty values at the end of a row.
            cells.append(row + [""] * (len(names) - len(row)))
            lines.append(line + first_line - 1)
    except csv.Error as error:
        raise UserError(f"{path}: is not valid CSV ({_explain(error)}); correct its quotes") from None
    columns = {
        name: values
        for number, name in enumerate(names)
        # A line may end with a separator.
        if any(map(str.strip, values := [row[number] for row in cells])) or header[number].strip()
    }
    form = f"values separated by {_SEPARATORS.get(dialect.separator, repr(dialect.separator))}, in {encoding}"
    return TableFile(path, columns, lines, "line", form)


def _rows(text: str, dialect: _Dialect) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, values) of each row that is not empty. Raises csv.Error."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.separator,
        doublequote=dialect.escape is None,
        escapechar=dialect.escape,
        skipinitialspace=True,
        strict=True,
    )
    line = 1
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield line, row
            line = reader.line_num + 1
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


def _column_names(header: Sequence[str]) -> list[str]:
    """The header's names, with numbers for those that are empty or repeated."""
    names: list[str] = []
    for number, cell in enumerate(header, 1):
        name = " ".join(cell.split()) or f"column {number}"
        names.append(f"{name} ({number})" if name in names else name)
    return names


def _read_json(path: Path, text: str) -> TableFile:
    if text.lstrip().startswith("["):
        with explained(f"{path}: is not valid JSON", "correct it"):
            values = json.loads(text)
        numbered, unit, form = list(enumerate(values, 1)), "row", "a JSON array"
    else:
        numbered, unit, form = list(_json_lines(path, text)), "line", "JSON lines"
    columns: dict[str, list[str]] = {}
    for row, (number, value) in enumerate(numbered):
        if not isinstance(value, dict):
            raise UserError(f"{path}: {unit} {number}: is not an object with named values; correct it")
        for name, cell in value.items():
            columns.setdefault(name, [""] * len(numbered))[row] = _as_text(cell)
    return TableFile(path, columns, [number for number, _ in numbered], unit, form)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    # Not splitlines(), which splits at characters that JSON allows within a text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            with explained(f"{path}: line {number}: is not valid JSON", "correct it"):
                value = json.loads(line)
            yield number, value


def _read_parquet(path: Path, content: bytes) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with explained(f"{path}: is damaged", "write it again"):
        table = pq.read_table(pa.BufferReader(content))
        names = _column_names(table.column_names)
        columns = {
            name: list(map(_as_text, column.to_pylist()))
            for name, column in zip(names, table.columns, strict=True)
            if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type)
        }
    return TableFile(path, columns, range(1, table.num_rows + 1), "row", "Parquet")


def _as_text(value: Any) -> str:
    """A cell of JSON or Parquet as CSV would have it.

    A whole number has no ".0", which pandas gives a column of numbers where some are missing.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _JOINED_BY.join(value)
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
