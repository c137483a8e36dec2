"""Tables of data/raw: what people wrote into them stays when `lineup photos` adds rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from lineup.errors import UserError, naming
from lineup.storage import csv_files


def merged(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    key_columns: int = 1,
    replace: bool = False,
    removed: Set[str] = frozenset(),
) -> str | None:
    """A table with further rows, sorted.

    Args:
        path: of the table, which need not exist.
        columns: of `rows`; the first `key_columns` of them identify a row.
        replace: whether a new row replaces the one that the table has; otherwise that one stays.
        removed: paths below data/raw; rows about them are left out.
    Returns:
        The new content; None if nothing changes.
    Raises:
        UserError: the table can't be read.
    """
    header, before = _read(path)
    header = header or [*columns]
    missing = [column for column in columns[:key_columns] if column not in header]
    if missing:
        raise UserError(f"{path}: has no column '{missing[0]}'; add it, or move the table away")
    header += [column for column in columns if column not in header]
    positions = [header.index(column) for column in columns]

    table = {}
    for row in before:
        row += [""] * (len(header) - len(row))
        key = tuple(row[position] for position in positions[:key_columns])
        if removed.isdisjoint(key):
            table[key] = row
    after = dict(table)
    for values in rows:
        key = tuple(values[:key_columns])
        if replace or key not in table:
            row = [*table.get(key, [""] * len(header))]
            for position, value in zip(positions, values, strict=True):
                row[position] = value
            after[key] = row
    if after == table and len(table) == len(before):
        return None
    return csv_files.plain_csv_text([header, *(after[key] for key in sorted(after))])


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows; both are empty if the table does not exist."""
    try:
        with naming(path):
            text = path.read_text(encoding="utf-8-sig")
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except FileNotFoundError:
        return [], []
    except (ValueError, csv.Error):
        raise UserError(f"{path}: is not a valid CSV table in UTF-8; repair it, or move it away") from None
    return [cell.strip() for cell in header], [row for row in rows if any(row)]
