"""Which photo of the source a cell of a table names, and what its rows say about it."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError
from lineup.layouts.layout import SourcePhoto
from lineup.layouts.source_files import counted
from lineup.layouts.table_files import TableFile
from lineup.photos.raw_tables import normal_label

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_SEPARATORS = ("|", ";", ",", "\n")  # between several photos in one cell
_NAMES_IN_A_MESSAGE = 3
_CELLS_COMPARED = 1_000
_MAX_COMPARED_NAMES = 5_000

_ToName = Callable[[str], str]


class PhotoFinder:
    """Finds the files that a table's cells name, with either kind of slash and in any Unicode form.

    Capitals need not agree where only one file has the name otherwise.
    """

    def __init__(self, source: Path, names: Iterable[str]) -> None:
        self.source, self._names = source, list(names)
        self._exact = set(self._names)
        self._alike: dict[str, str | None] = {}  # None where several are alike
        for name in self._names:
            key = _alike(name)
            self._alike[key] = None if key in self._alike else name

    def find(self, name: str) -> str | None:
        """The file of a name below the source; None if there is none, or several are alike."""
        if name in self._exact:
            return name
        return self._alike.get(_alike(name))

    def nearest(self, name: str) -> str | None:
        """The most similar file: of the same name in another folder, else of the same stem, else any."""
        wanted = name.rpartition("/")[2].casefold()
        stem = wanted.rpartition(".")[0] or wanted
        for is_alike in (
            lambda other: other == wanted,
            lambda other: (other.rpartition(".")[0] or other) == stem,
            lambda other: True,
        ):
            candidates = (other for other in self._names if is_alike(other.rpartition("/")[2].casefold()))
            close = difflib.get_close_matches(name, islice(candidates, _MAX_COMPARED_NAMES), n=1, cutoff=0.4)
            if close:
                return close[0]
        return None

    def base_of(self, cells: Iterable[str], table: Path) -> tuple[_ToName, str]:
        """What the paths in a table are relative to: the source, its parent, or the table's folder.

        Returns:
            a function from a cell to a name below the source, and a note for the summary, "" for the source.
        """
        top = self.source.resolve()
        compared = list(islice(cells, _CELLS_COMPARED))
        bases: list[tuple[_ToName, str]] = [
            (lambda cell: _normal(cell, str(top)), ""),
            (
                lambda cell: _normal(cell, str(top)).removeprefix(f"{top.name}/"),
                "paths begin with the source's name",
            ),
        ]
        folder = table.resolve().parent
        if folder != top and folder.is_relative_to(top):
            inside = folder.relative_to(top).as_posix()
            bases.append(
                (lambda cell: _normal(f"{inside}/{cell}", str(top)), f"paths are relative to {inside}/")
            )
        return max(bases, key=lambda base: sum(bool(self.split(cell, base[0])[0]) for cell in compared))

    def split(self, cell: str, to_name: _ToName) -> tuple[list[str], list[str]]:
        """The photos that a cell names, one or several, and the parts of it that name none."""
        photo = self.find(to_name(cell))
        if photo is not None:
            return [photo], []
        for separator in _SEPARATORS:
            parts = [part.strip() for part in cell.split(separator) if part.strip()]
            if len(parts) > 1:
                photos = [self.find(to_name(part)) for part in parts]
                if any(photos):
                    return [p for p in photos if p], [c for c, p in zip(parts, photos, strict=True) if not p]
        return [], [cell]


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _normal(cell: str, top: str) -> str:
    """A path as the listing has it, if it is below the source."""
    path = cell.strip().replace("\\", "/")
    if path.startswith(f"{top}/"):
        path = path[len(top) + 1 :]
    # A leading slash is left, and names nothing.
    return posixpath.normpath(path) if path else ""


@dataclass
class TablePhotos:
    """What the rows say.

    Attributes:
        photos: each once, in the order of the rows.
        notes: for the summary.
    """

    photos: list[SourcePhoto] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Row(NamedTuple):
    """The first row of a photo, and the first label that any of its rows has."""

    row: int
    label: str | None


def read_rows(
    table: TableFile, finder: PhotoFinder, path_column: str, label_column: str | None
) -> TablePhotos:
    """The photos of a table. Columns besides the two become attributes, where they are not empty.

    Raises:
        UserError: photos do not exist, or a photo has two labels.
    """
    cells = table.columns[path_column]
    to_name, base = finder.base_of(filter(None, cells), table.path)
    others = {
        name: values for name, values in table.columns.items() if name not in (path_column, label_column)
    }
    labels = table.columns[label_column] if label_column is not None else None
    first: dict[str, _Row] = {}
    missing: list[tuple[int, str]] = []
    without_photo = respelt = 0
    for row, cell in enumerate(cells):
        if not cell.strip():
            without_photo += 1
            continue
        names, unknown = finder.split(cell, to_name)
        missing += ((row, part) for part in unknown)
        label = normal_label(labels[row]) if labels is not None else None
        for name in names:
            earlier = first.get(name)
            if earlier is None or earlier.label is None:
                first[name] = _Row(row, label) if earlier is None else _Row(earlier.row, label)
            elif label not in (None, earlier.label):
                raise UserError(
                    f"{table.path}: {table.unit}s {table.lines[earlier.row]} and {table.lines[row]} give "
                    f"{name!r} the labels {earlier.label!r} and {label!r}; correct one of them"
                )
        respelt += names == [finder.find(to_name(cell))] and names[0] != to_name(cell)
    if missing:
        raise _missing(table, finder, missing, to_name)
    notes = [base] if base else []
    if respelt:
        notes.append(f"{counted(respelt, 'path')} matched without regard to capitals and accents")
    if without_photo:
        notes.append(f"{counted(without_photo, table.unit)} without a photo")
    if len(first) != len(cells) - without_photo:
        notes.append(f"{counted(len(first), 'photo')} in {counted(len(cells) - without_photo, table.unit)}")
    return TablePhotos(
        [
            SourcePhoto(name, label, attributes=_attributes(others, row))
            for name, (row, label) in first.items()
        ],
        notes,
    )


def _attributes(columns: dict[str, list[str]], row: int) -> dict[str, str]:
    return {name: text for name, values in columns.items() if (text := values[row].strip())}


def _missing(
    table: TableFile, finder: PhotoFinder, missing: Sequence[tuple[int, str]], to_name: _ToName
) -> UserError:
    shown = ", ".join(
        f"{cell[:200]!r} ({table.unit} {table.lines[row]})" for row, cell in missing[:_NAMES_IN_A_MESSAGE]
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
