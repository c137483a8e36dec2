"""The one writer of CSV files, which are safe to open in a spreadsheet, and their readers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from lineup.errors import UserError, naming
from lineup.storage.files import REPAIR, missing, replace_atomically

# A spreadsheet computes a cell that begins like this, even after spaces. Single quotes before it are ours, or
# were part of the text already.
_FORMULA = r"'*[ \t\r\n]*[=+\-@＝＋－＠]|'*[\t\r\n]"  # noqa: RUF001

_NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"

_WITHOUT_QUOTE = pc.ReplaceSubstringOptions(rf"^'({_FORMULA})", r"\1")

_is_formula, _is_number = re.compile(_FORMULA).match, re.compile(_NUMBER, re.ASCII).fullmatch


@dataclass(frozen=True)
class _Lines:
    """Writes LF where csv writes CR LF; told to write LF itself, csv would not quote a CR inside a cell."""

    stream: TextIO

    def write(self, line: str) -> None:
        self.stream.write(line.removesuffix("\r\n") + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes one CSV file that is safe to open in a spreadsheet.

    A text that a spreadsheet would compute gets a single quote in front, which `read_csv` removes again.
    Numbers stay numbers, even if given as text. None is an empty cell.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            _write_cells(stream, header, rows)

    replace_atomically(path, write)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """What `write_csv` writes."""
    out = io.StringIO(newline="")
    _write_cells(out, header, rows)
    return out.getvalue()


def plain_csv_text(rows: Iterable[Sequence[object]]) -> str:
    """The content of a table that people write, too: no text gets a quote in front."""
    out = io.StringIO(newline="")
    csv.writer(_Lines(out), lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def _write_cells(stream: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(_Lines(stream), lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(map(_quote_formula, row) for row in rows)


def _quote_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) and not _is_number(cell) else cell


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote. Raises UserError if it does not exist or is damaged."""
    try:
        with naming(path), path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
            return [dict(zip(header, map(_unquote_formula, row), strict=True)) for row in rows]
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, csv.Error):
        raise UserError(f"{path}: is damaged; {REPAIR}") from None


def _unquote_formula(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def read_csv_columns(source: Path | BinaryIO, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Some columns of a file that `write_csv` wrote, read fast; an empty number is null.

    Raises:
        FileNotFoundError: it does not exist.
        pa.ArrowInvalid, pa.ArrowKeyError: it has other columns.
    """
    convert = pa_csv.ConvertOptions(
        include_columns=[*columns], column_types=dict(columns), strings_can_be_null=False
    )
    table = pa_csv.read_csv(
        source, parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=convert
    )
    for number, (name, kind) in enumerate(columns.items()):
        if kind == pa.string():
            original = pc.call_function("replace_substring_regex", [table.column(name)], _WITHOUT_QUOTE)
            table = table.set_column(number, name, original)
    return table
