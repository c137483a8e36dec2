"""What the rows of a table say about the photos that they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lineup.errors import UserError
from lineup.layouts.layout import SourcePhoto
from lineup.layouts.photo_finder import PhotoFinder, ToName, is_respelt
from lineup.layouts.source_files import counted
from lineup.layouts.table_files import TableFile
from lineup.photos.raw_tables import normal_label

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_NAMES_IN_A_MESSAGE = 3
_MAX_CELL_CHARACTERS = 200


class _Mention(NamedTuple):
    """The first row that names a photo, and the first label that any row gives it."""

    row: int
    label: str | None


@dataclass
class TablePhotos:
    """The photos of a table, and what is worth to be said about its rows.

    Attributes:
        mentions: name of the photo -> what rows say, in the order of the rows.
        without_photo: the number of rows whose cell is empty.
        respelt: the number of cells whose capitals or accents differ from the file's.
        base: what the paths are relative to, if not to the source.
    """

    table: TableFile
    mentions: dict[str, _Mention] = field(default_factory=dict)
    without_photo: int = 0
    respelt: int = 0
    base: str = ""

    def add(self, name: str, row: int, label: str | None) -> None:
        """Raises UserError if another row gives the photo another label."""
        earlier = self.mentions.setdefault(name, _Mention(row, label))
        if earlier.label is None:
            self.mentions[name] = _Mention(earlier.row, label)
        elif label not in (None, earlier.label):
            lines = self.table.lines
            raise UserError(
                f"{self.table.path}: {self.table.unit}s {lines[earlier.row]} and {lines[row]} give {name!r} "
                f"the labels {earlier.label!r} and {label!r}; correct one of them"
            )

    def photos(self, *columns: str | None) -> list[SourcePhoto]:
        """Each photo once. All columns but the given ones are its attributes, where they are not empty."""
        others = {name: cells for name, cells in self.table.columns.items() if name not in columns}
        return [
            SourcePhoto(
                name,
                mention.label,
                attributes={
                    column: text for column, cells in others.items() if (text := cells[mention.row].strip())
                },
            )
            for name, mention in self.mentions.items()
        ]

    def notes(self) -> list[str]:
        """Parts of the summary."""
        notes = [self.base] if self.base else []
        if self.respelt:
            notes.append(f"{counted(self.respelt, 'path')} matched without regard to capitals and accents")
        if self.without_photo:
            notes.append(f"{counted(self.without_photo, self.table.unit)} without a photo")
        rows = len(self.table.lines) - self.without_photo
        if len(self.mentions) != rows:
            notes.append(f"{counted(len(self.mentions), 'photo')} in {counted(rows, self.table.unit)}")
        return notes


def read_rows(
    table: TableFile, finder: PhotoFinder, path_column: str, label_column: str | None
) -> TablePhotos:
    """Reads all rows of a table.

    Raises:
        UserError: photos do not exist, or a photo has two labels.
    """
    cells = table.columns[path_column]
    labels = table.columns[label_column] if label_column is not None else [""] * len(cells)
    to_name, base = finder.base_of(filter(None, cells), table.path)
    read = TablePhotos(table, base=base)
    missing: list[tuple[int, str]] = []
    for row, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        if not cell.strip():
            read.without_photo += 1
            continue
        names, unknown = finder.split(cell, to_name)
        missing += ((row, part) for part in unknown)
        for name in names:
            read.add(name, row, normal_label(label))
        read.respelt += len(names) == 1 and is_respelt(to_name(cell), names[0])
    if missing:
        raise _missing(table, finder, missing, to_name)
    return read


def _missing(
    table: TableFile, finder: PhotoFinder, missing: Sequence[tuple[int, str]], to_name: ToName
) -> UserError:
    shown = ", ".join(
        f"{cell[:_MAX_CELL_CHARACTERS]!r} ({table.unit} {table.lines[row]})"
        for row, cell in missing[:_NAMES_IN_A_MESSAGE]
    )
    dots = ", …" if len(missing) > _NAMES_IN_A_MESSAGE else ""
    first = missing[0][1].strip()
    if _URL.match(first):
        is_url = "is a URL, not a file" if len(missing) == 1 else "are URLs, not files"
        return UserError(
            f"{table.path}: {counted(len(missing), 'photo')} {is_url}: {shown}{dots}; download them into "
            f"{finder.source}, and name the files in the table"
        )
    nearest = finder.nearest(to_name(first))
    fix = f"did you mean {nearest!r}?" if nearest else f"write paths relative to {finder.source}"
    does = "does" if len(missing) == 1 else "do"
    return UserError(
        f"{table.path}: {counted(len(missing), 'photo')} {does} not exist below {finder.source}: "
        f"{shown}{dots}; {fix}"
    )
