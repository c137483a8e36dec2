"""Where in a source a data set begins, and whether everything that its lists name is there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from lineup.errors import UserError
from lineup.layouts.listing import Listing

_NAMES_IN_A_MESSAGE = 3


class Named(Protocol):
    """A photo of a data set."""

    @property
    def name(self) -> str:
        """The path below the source."""
        ...


def folder_with(source: Path, *names: str) -> Path | None:
    """The folder that holds any of the names: the source, or the only folder in it."""
    if not source.is_dir():
        return None
    if _holds(source, names):
        return source
    folders = subfolders(source)
    return folders[0] if len(folders) == 1 and _holds(folders[0], names) else None


def require_folder(folder: Path | None, source: Path, layout: str, *names: str) -> Path:
    """What `folder_with` gave. Raises UserError if it is None, as with a layout that the user chose."""
    if folder is None:
        raise UserError(
            f"{source}: is not {layout}, since it has no {' or '.join(names)}; leave out --layout, or name "
            "the folder that has it"
        )
    return folder


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(folder / e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).exists() for name in names)


def prefix_of(folder: Path, source: Path) -> str:
    """What the names of the folder's files begin with: "" for the source itself, else "CUB_200_2011/"."""
    return "" if folder == source else f"{folder.relative_to(source).as_posix()}/"


def require(path: Path, layout: str) -> Path:
    """The path itself. Raises UserError if a file or folder that the layout needs does not exist."""
    if not path.exists():
        raise UserError(f"{path}: does not exist, and {layout} needs it; copy it from the data set's archive")
    return path


def require_photos(names: Sequence[str], existing: Collection[str], listed_in: Path) -> None:
    """Raises UserError if a list names photos that do not exist: how many, and the first three.

    Args:
        names: of the list, in its order, below the source.
        existing: the names below the source.
    """
    missing = [name for name in names if name not in existing]
    if missing:
        raise UserError(
            f"{listed_in}: {counted(len(missing), 'photo')} of {len(names):,} "
            f"{'does' if len(missing) == 1 else 'do'} not exist: {first_names(missing)}; "
            "unpack the data set's photos beside it, or remove these lines"
        )


def require_once(photos: Iterable[Named], listed_in: Path) -> None:
    """Raises UserError if a list names a photo twice."""
    names: set[str] = set()
    for photo in photos:
        if photo.name in names:
            raise UserError(f"{listed_in}: names {photo.name!r} twice; remove one of the two")
        names.add(photo.name)


def first_names(names: Sequence[str]) -> str:
    """The first three names, and dots if there are more."""
    shown = ", ".join(map(repr, names[:_NAMES_IN_A_MESSAGE]))
    return f"{shown}, …" if len(names) > _NAMES_IN_A_MESSAGE else shown


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 photo", "12,936 photos"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def unused(files: Listing, source: Path, photos: Iterable[Named], *tables: Path) -> list[str]:
    """The files below the source that are neither among the photos nor a table that was read, sorted."""
    used = {photo.name for photo in photos} | {table.relative_to(source).as_posix() for table in tables}
    return sorted(name for name in (*files.photos, *files.others) if name not in used)
