"""Reads the text files in which data sets list their photos: one photo per line, values between spaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lineup.errors import UserError
from lineup.layouts.source_files import require


def read_lines(path: Path, layout: str) -> list[str]:
    """The lines of a text file.

    Args:
        layout: the name of the data set, for the error.
    Raises:
        UserError: it does not exist, or is not text.
    """
    try:
        return require(path, layout).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text in UTF-8; copy it from the data set's archive") from None


def read_rows(
    path: Path, layout: str, columns: str, header_lines: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """(line, its values) of each line of a list, after its header.

    Args:
        columns: what each line holds: "image_id path".
    Raises:
        UserError: it does not exist, or a line has more or fewer values.
    """
    width = len(columns.split())
    for number, line in enumerate(read_lines(path, layout)[header_lines:], header_lines + 1):
        values = line.split()
        if len(values) == width:
            yield number, values
        elif values:
            raise UserError(
                f"{path}: line {number}: has {len(values)} values, not {width}; each line holds {columns!r}"
            )
