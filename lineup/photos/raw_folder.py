"""data/raw as its owner laid it out: photos in folders, perhaps labels.csv. Reads names, never pixels."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import sqlite3
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from lineup.errors import OF_ALL_FILES, UserError, printable
from lineup.photos import photo_register, raw_tables

log = logging.getLogger(__name__)
SPLITS = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
_FOLDERS = ("train", "test", "query", "gallery")
_TABLES = {"labels.csv", "qrels.csv"}
_KNOWN = {*SPLITS, "test", *_TABLES}
_AFTER_A_CHANGE = "after a change there run `dvc repro -f preprocess`, or link data/raw as a whole"
_NOT_PHOTOS = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # what file managers leave behind


def read(register: sqlite3.Connection, root: Path) -> None:
    """Lists the photos, their labels and what is not read. Raises UserError for a missing or empty folder and
    for every fault of labels.csv.

    A photo's label is its first folder below train/, query/ or gallery/; labels.csv wins, also where it
    leaves a label empty.
    """
    _check_folders(root)
    for folder, split in SPLITS.items():
        files = (_file(name, folder, split) for name in _walk(register, root, folder))
        found = register.executemany(
            "INSERT INTO file (path, split, label, normal) VALUES (?, ?, ?, ?)", files
        )
        closed = register.execute(
            "SELECT problem FROM problem WHERE path = ? AND skipped", (folder,)
        ).fetchone()
        if closed:
            raise UserError(f"{root / folder}: {closed[0]}; make it readable for this user")
        if split != "train" and found.rowcount < 1:
            inside = register.execute(
                "SELECT path, problem FROM problem WHERE skipped AND path LIKE ?", (f"{folder}/%",)
            ).fetchone()
            if inside:
                raise UserError(
                    f"{root / folder}: holds no files that can be read: {root / inside[0]} {inside[1]}"
                )
            raise UserError(
                f"{root / folder}: holds no files; put the {split} photos there, loose or in a folder per label"
            )
    raw_tables.read_labels(register, root)
    _note_outside(register, root)


def photos(root: Path, folder: str) -> set[str]:
    """The files of a split's folder that `read` would list now; none where it isn't there."""
    with photo_register.temporary() as register:
        return set(_walk(register, root, folder))


def _file(name: str, folder: str, split: str) -> tuple[str, str, str | None, str | None]:
    label, inside, _ = name.removeprefix(f"{folder}/").partition("/")
    normal = unicodedata.normalize("NFC", name)
    return name, split, raw_tables.normal_label(label) if inside else None, normal if normal != name else None


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"{root}: is not there; put your photos into {root / 'test/query'} and {root / 'test/gallery'}, or run `lineup demo`"
        )
    train = root / "train"
    if not train.is_dir() and (train.exists() or train.is_symlink()):
        raise UserError(
            f"{train}: is {'a broken link' if train.is_symlink() else 'a file'}; it must be a folder, or not there at all"
        )
    for folder in ("test", "test/query", "test/gallery"):
        place = root / folder
        if not place.is_dir():
            there = {
                entry.name.casefold(): entry.name
                for entry in place.parent.iterdir()
                if entry.is_dir() and entry.name not in _FOLDERS
            }
            close = difflib.get_close_matches(place.name, there, n=1, cutoff=0.6)
            hint = (
                f"rename '{there[close[0]]}' to '{place.name}'"
                if close
                else "put photos into test/query and test/gallery"
            )
            raise UserError(f"{place}: is not there; {hint}")


def _walk(
    register: sqlite3.Connection, root: Path, place: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Files below a folder, relative to root, as the disk lists them. Links to folders are followed, but not
    round in circles.

    above: the folders that it lies in. os.walk would hold all names of a folder.
    """
    at = root / place
    if not above and not at.is_dir():
        return
    try:
        with os.scandir(at) as entries:
            status = at.stat()
            itself = (status.st_dev, status.st_ino)
            if itself in above:
                photo_register.add_problem(
                    register, _shown(place), "is a link to a folder that it lies in", unread=True
                )
                return
            if at.is_symlink():
                told = f"is a link to a folder; DVC doesn't look into it: {_AFTER_A_CHANGE}"
                photo_register.add_problem(register, _shown(place), told)
            for entry in entries:
                name = f"{place}/{entry.name}"
                if not _is_photo_name(entry.name):
                    continue
                if _is_folder(entry):
                    yield from _walk(register, root, name, above | {itself})
                elif _shown(name) == name:
                    yield name
                else:
                    photo_register.add_problem(
                        register, _shown(name), "has a name that is not UTF-8; rename it", skipped=True
                    )
    except OSError as error:
        if error.errno in {*OF_ALL_FILES, errno.EIO}:
            raise
        photo_register.add_problem(
            register,
            _shown(place),
            f"can't be read: {(error.strerror or 'unknown error').lower()}",
            skipped=True,
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_PHOTOS


def _shown(name: str) -> str:
    """A name whose undecodable bytes can be written to a table."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _note_outside(register: sqlite3.Connection, root: Path) -> None:
    """What lies beside the folders that are read; a folder is told once."""
    for folder in (root, root / "test"):
        with os.scandir(folder) as entries:
            for entry in entries:
                name = Path(entry.path).relative_to(root).as_posix()
                if name in _KNOWN:
                    continue
                if name.casefold() in _TABLES and entry.is_file() and not (root / name.casefold()).exists():
                    raise UserError(
                        f"{entry.path}: is not read under this name; rename it to '{name.casefold()}'"
                    )
                if Path(name).stem.casefold().startswith(("label", "qrel")) and entry.is_file():
                    tables = (root / table for table in sorted(_TABLES))
                    log.warning(
                        "%s: is not read; labels are read from %s, answers from %s",
                        printable(entry.path),
                        *tables,
                    )
                if _is_photo_name(entry.name):
                    fault = "is not read: it is outside train/, test/query/ and test/gallery/"
                    photo_register.add_problem(register, _shown(name), fault, unread=True)
