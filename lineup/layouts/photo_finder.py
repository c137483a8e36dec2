"""Finds the file that a cell of a table names."""

from __future__ import annotations

import difflib
import posixpath
import unicodedata
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

_SEPARATORS = ("|", ";", ",", "\n")  # between several photos in one cell
_CELLS_COMPARED = 1_000
_MAX_COMPARED_NAMES = 5_000

# From a cell to a name below the source.
ToName = Callable[[str], str]


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
            close = difflib.get_close_matches(name, islice(candidates, _MAX_COMPARED_NAMES), n=1, cutoff=0.6)
            if close:
                return close[0]
        return None

    def base_of(self, cells: Iterable[str], table: Path) -> tuple[ToName, str]:
        """What the paths in a table are relative to: the source, its parent, or the table's folder.

        Returns:
            a function from a cell to a name below the source, and a note for the summary, "" for the source.
        """
        top = self.source.resolve()
        compared = list(islice(cells, _CELLS_COMPARED))
        bases: list[tuple[ToName, str]] = [
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

    def split(self, cell: str, to_name: ToName) -> tuple[list[str], list[str]]:
        """The photos that a cell names, one or several, and the parts of it that name none."""
        photo = self.find(to_name(cell))
        if photo is not None:
            return [photo], []
        for separator in _SEPARATORS:
            parts = [part.strip() for part in cell.split(separator) if part.strip()]
            photos = [self.find(to_name(part)) for part in parts]
            if any(photos):
                return [p for p in photos if p], [c for c, p in zip(parts, photos, strict=True) if not p]
        return [], [cell]


def is_respelt(name: str, photo: str) -> bool:
    """Whether a name and that of its photo differ, by capitals or accents alone."""
    return name != photo and _alike(name) == _alike(photo)


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _normal(cell: str, top: str) -> str:
    """A path as the listing has it, if it is below the source."""
    path = cell.strip().replace("\\", "/")
    if path.startswith(f"{top}/"):
        path = path[len(top) + 1 :]
    # A leading slash is left, and names nothing.
    return posixpath.normpath(path) if path else ""
