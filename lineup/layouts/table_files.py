"""Reads a table that a shop system, a spreadsheet or a notebook wrote: CSV, Parquet, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineup.errors import UserError, explained, naming
from lineup.layouts import csv_text

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
        table = _read_text(path, *csv_text.decode(path, content), wanted)
    if not table.columns:
        raise UserError(f"{path}: is empty; it needs a header and a row for each photo")
    if not table.lines:
        raise UserError(f"{path}: has a header and no rows; it needs a row for each photo")
    return table


def _read_text(path: Path, text: str, encoding: str, wanted: Collection[str]) -> TableFile:
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return _read_json(path, text)
    columns, lines, separator = csv_text.read(path, text, wanted)
    return TableFile(path, columns, lines, "line", f"values separated by {separator}, in {encoding}")


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
        names = csv_text.column_names(table.column_names)
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
