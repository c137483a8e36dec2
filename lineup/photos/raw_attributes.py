"""Reads attributes.csv, what a user knows of photos or labels; each fault names its line and its fix."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError
from lineup.photos import raw_csv, raw_tables
from lineup.photos.photo_names import PhotoNames
from lineup.photos.photo_register import add_problem, scalar
from lineup.storage import schemas

FILE_NAME = "attributes.csv"
_KEYS = ("path", "label")
# Columns that a user's table may not have for something else.
RESERVED = {*_KEYS, *schemas.ATTRIBUTES.names, "paths"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_COMPARED_LABELS = 5_000
# pandas writes it for a missing number.
_MISSING = "nan"


class Column(NamedTuple):
    """A column of attributes.csv.

    is_number: whether every value is a number; then numbers are compared, else texts.
    """

    name: str
    is_number: bool


@dataclass
class _Values:
    """What was seen in one column.

    Attributes:
        text_line, text: where the first value is that is no number, and that value.
    """

    name: str
    numbers: int = 0
    texts: int = 0
    text_line: int = 0
    text: str = ""

    def add(self, line: int, value: str) -> None:
        if not value:
            return
        if number(value) is not None:
            self.numbers += 1
            return
        if not self.texts:
            self.text_line, self.text = line, value
        self.texts += 1


@dataclass
class _Missing:
    """Photos that are not there: how many, the line of the first, and its name."""

    count: int = 0
    line: int = 0
    name: str = ""

    def add(self, line: int, name: str) -> None:
        if not self.count:
            self.line, self.name = line, name
        self.count += 1


def number(value: str) -> float | None:
    """The finite number that a text is; None if it is none."""
    parsed = float(value) if _NUMBER.fullmatch(value) else math.nan
    return parsed if math.isfinite(parsed) else None


def read(register: sqlite3.Connection, root: Path) -> list[Column]:
    """Adds the lines of attributes.csv to the register, with names as they are on disk.

    A line is about a photo, which the column `path` names, or about every photo of a label. The table may
    have more photos and labels than the folders, such as photos that were removed since: those are noted.

    Returns:
        The columns besides `path` and `label`; none if the file does not exist.
    Raises:
        UserError: the file has a fault, or none of its photos or none of its labels is there.
    """
    path, names = root / FILE_NAME, PhotoNames(register, root)
    lines = raw_csv.lines(path)
    seen: list[_Values] = []
    for _, header in islice(lines, 1):
        seen, missing = [_Values(name) for name in _user_columns(header, path)], _Missing()
        for line, cells in lines:
            row = dict(zip(header, cells, strict=True))
            values = [_plain(row[each.name]) for each in seen]
            for column, value in zip(seen, values, strict=True):
                column.add(line, value)
            about, name = _subject(row, f"{path}: line {line}")
            photo = names.resolve(name, f"{path}: line {line}") if about == "path" else name
            if photo is None:
                missing.add(line, name)
            else:
                _insert(register, path, line, (about, photo), values)
        _note_missing_photos(register, path, names, missing)
        _note_unknown_labels(register, path)
    for column in seen:
        if column.numbers > column.texts > 0:
            note = (
                f"has numbers in column {column.name!r}, but {column.text!r} in line {column.text_line}: "
                "its values are groups, not quartiles; leave unknown numbers empty"
            )
            add_problem(register, FILE_NAME, note)
    return [Column(column.name, column.numbers > 0 and not column.texts) for column in seen]


def _user_columns(header: list[str], path: Path) -> list[str]:
    """The columns besides `path` and `label`. Raises UserError if the header has a fault."""
    source = f"{path}: line 1"
    if not set(_KEYS) & set(header):
        raise UserError(
            f"{source}: has no column 'path' or 'label'{raw_csv.hint('path', header)}; "
            "the header is path, or label, then any columns"
        )
    for name in header:
        if not name:
            raise UserError(f"{source}: has a column without a name; name or remove it")
        if header.count(name) > 1:
            raise UserError(f"{source}: has the column {name!r} twice; remove one")
        if name in RESERVED and name not in _KEYS:
            raise UserError(f"{source}: {name!r} is a column that Lineup writes; rename it, as my_{name}")
    columns = [name for name in header if name not in _KEYS]
    if not columns:
        raise UserError(f"{source}: has no attribute; add a column besides {' and '.join(header)}")
    return columns


def _subject(row: dict[str, str], source: str) -> tuple[str, str]:
    """What a line is about: path or label, and the name, as it is written."""
    photo, label = row.get("path", ""), raw_tables.normal_label(row.get("label", ""))
    if photo.strip() and label:
        raise UserError(
            f"{source}: is about the photo {photo!r} and the label {label!r}; leave one of the two empty, "
            "or remove the column 'label' if every line is about a photo"
        )
    if label:
        return "label", label
    if not photo.strip():
        missing = " nor ".join(key for key in _KEYS if key in row)
        raise UserError(f"{source}: has no {missing}; fill it in or remove the line")
    return "path", photo


def _insert(
    register: sqlite3.Connection, path: Path, line: int, subject: tuple[str, str], values: list[str]
) -> None:
    try:
        register.execute("INSERT INTO attribute VALUES (?, ?, ?, ?)", (*subject, line, json.dumps(values)))
    except sqlite3.IntegrityError:
        query = "SELECT line FROM attribute WHERE about = ? AND name = ?"
        (earlier,) = register.execute(query, subject).fetchone()
        raise UserError(
            f"{path}: line {line}: {subject[1]!r} was already in line {earlier}; remove one of the two"
        ) from None


def _plain(cell: str) -> str:
    """A cell in Unicode's form NFC, on one line; "" if it is missing."""
    text = " ".join(unicodedata.normalize("NFC", cell).split())
    return "" if text.casefold() == _MISSING else text


def _note_missing_photos(
    register: sqlite3.Connection, path: Path, names: PhotoNames, missing: _Missing
) -> None:
    """Adds photos that are not there to the problems. Raises UserError if all of them are missing."""
    if not missing.count:
        return
    fault = str(names.missing(missing.name, f"line {missing.line}"))
    present = scalar(register, "SELECT count(*) FROM attribute WHERE about = 'path'")
    if not present:
        raise UserError(f"{path}: {fault}")
    total = missing.count + present
    note = f"has {missing.count:,} of {total:,} lines about photos that are not there; the first: {fault}"
    add_problem(register, FILE_NAME, note)


def _note_unknown_labels(register: sqlite3.Connection, path: Path) -> None:
    """Adds labels that no photo has to the problems: a catalogue may have more than the photos.

    Raises:
        UserError: no label is a photo's.
    """
    labels = "SELECT {} FROM attribute WHERE about = 'label'"
    unknown = f"{labels} AND name NOT IN (SELECT label FROM file WHERE label IS NOT NULL)"
    (count, line), (total,) = (
        register.execute(query).fetchone()
        for query in (unknown.format("count(*), min(line)"), labels.format("count(*)"))
    )
    if not count:
        return
    (name,) = register.execute(f"{unknown.format('name')} AND line = ?", (line,)).fetchone()
    known = register.execute(
        "SELECT DISTINCT label FROM file WHERE label IS NOT NULL ORDER BY label LIMIT ?",
        (_MAX_COMPARED_LABELS,),
    )
    close = get_close_matches(name, [label for (label,) in known], n=1, cutoff=0.4)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    if count == total:
        raise UserError(f"{path}: line {line}: no photo has the label {name!r}{suggestion}")
    add_problem(
        register,
        FILE_NAME,
        f"has {count:,} of {total:,} labels that no photo has; "
        f"the first is {name!r} in line {line}{suggestion}",
    )
