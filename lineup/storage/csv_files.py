"""The one CSV writer, whose files are safe to open in a spreadsheet, and its reader."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from lineup.errors import UserError, naming
from lineup.storage.files import REPAIR, replace_atomically

# A spreadsheet computes a cell that begins so, and looks past spaces; quotes before it are our own, or were
# there already.
_FORMULA = r"'*[ \t\r\n]*[=+\-@＝＋－＠]|'*[\t\r\n]"  # noqa: RUF001

_NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"

_WITHOUT_QUOTE = pc.ReplaceSubstringOptions(rf"^'({_FORMULA})", r"\1")

_is_formula, _is_number = re.compile(_FORMULA).match, re.compile(_NUMBER, re.ASCII).fullmatch


@dataclass(frozen=True)
class _Lines:
    """Ends lines with LF that csv ends with CR LF: so it quotes a CR inside a cell, too."""

    stream: TextIO

    def write(self, line: str) -> None:
        self.stream.write(line.removesuffix("\r\n") + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One CSV file, safe to open in a spreadsheet: a text that would be computed there gets a single quote in
    front.

    Numbers stay numbers, whether given as such or as text; None is an empty cell. `read_csv` gives the texts
    back as they were.
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


def _write_cells(stream: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(_Lines(stream), lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(map(_inert, row) for row in rows)


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) and not _is_number(cell) else cell


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote. UserError if it isn't there or is damaged."""
    try:
        with naming(path), path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
            return [dict(zip(header, map(_original, row), strict=True)) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`, or `dvc pull` it") from None
    except (ValueError, csv.Error):
        raise UserError(f"{path}: is damaged; {REPAIR}") from None


def _original(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def read_csv_columns(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Some columns of a file that `write_csv` wrote, fast; an empty number is null.

    FileNotFoundError if it isn't there; pa.ArrowInvalid or pa.ArrowKeyError if it holds others.
    """
    convert = pa_csv.ConvertOptions(
        include_columns=[*columns], column_types=dict(columns), strings_can_be_null=False
    )
    table = pa_csv.read_csv(
        path, parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=convert
    )
    for number, (name, kind) in enumerate(columns.items()):
        if kind == pa.string():
            original = pc.call_function("replace_substring_regex", [table.column(name)], _WITHOUT_QUOTE)
            table = table.set_column(number, name, original)
    return table
