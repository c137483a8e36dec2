"""Lists data/raw as its owner laid it out: photos in folders, perhaps labels.csv. No pixel is read."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import sqlite3
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from lineup import paths
from lineup.errors import OF_ALL_FILES, UserError, printable
from lineup.photos import photo_register, raw_tables

log = logging.getLogger(__name__)
SPLITS = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
_FOLDER_NAMES = ("train", "test", "query", "gallery")
_TABLES = ("labels.csv", "qrels.csv", "attributes.csv")
SOURCES = "sources.csv"  # by `lineup photos`, for people
# Judgements by other protocols of a data set. One of them is read once it is copied over qrels.csv.
OTHER_PROTOCOLS = ("qrels_easy.csv", "qrels_medium.csv", "qrels_hard.csv")
_KNOWN = {*SPLITS, "test", *_TABLES, SOURCES, *OTHER_PROTOCOLS}
_AFTER_A_CHANGE = "after a change there run `dvc repro -f preprocess`, or link data/raw as a whole"
# What file managers leave behind.
_NOT_PHOTOS = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}


def read(register: sqlite3.Connection, root: Path) -> None:
    """Fills the register with the photos, their labels, and what is not read.

    A photo's label is its first folder below train/, query/ or gallery/. labels.csv overrides it, also with
    an empty label.

    Raises:
        UserError: a folder is missing or empty, or labels.csv has a fault.
    """
    _check_folders(root)
    for folder, split in SPLITS.items():
        files = (_file(name, folder, split) for name in _walk(register, root, folder))
        inserted = register.executemany(
            "INSERT INTO file (path, split, label, normal) VALUES (?, ?, ?, ?)", files
        )
        unreadable = register.execute(
            "SELECT problem FROM problem WHERE path = ? AND skipped", (folder,)
        ).fetchone()
        if unreadable:
            raise UserError(f"{root / folder}: {unreadable[0]}; make it readable for this user")
        if split != "train" and inserted.rowcount < 1:
            skipped = register.execute(
                "SELECT path, problem FROM problem WHERE skipped AND path LIKE ?", (f"{folder}/%",)
            ).fetchone()
            if skipped:
                raise UserError(
                    f"{root / folder}: holds no files that can be read: {root / skipped[0]} {skipped[1]}"
                )
            raise UserError(
                f"{root / folder}: holds no files; put the {split} photos there, "
                "loose or in a folder per label"
            )
    raw_tables.read_labels(register, root)
    _add_outside_files(register, root)


def check_exists(root: Path, name: str) -> None:
    """Raises UserError if the folder of a second test set is missing."""
    if not root.is_dir():
        fault = "is not a folder" if root.exists() else "does not exist"
        raise UserError(
            f"{paths.PARAMS}: transfer.sets.{name} is {str(root)!r}, which {fault}; put photos into "
            f"{root / 'test/query'} and {root / 'test/gallery'}"
        )


def has_training(register: sqlite3.Connection) -> bool:
    """Whether the register has a training photo."""
    return bool(photo_register.scalar(register, "SELECT EXISTS (SELECT 1 FROM file WHERE split = 'train')"))


def leave_out_training(register: sqlite3.Connection) -> None:
    """Removes the training photos, and what is wrong with them, from the register."""
    register.execute("DELETE FROM file WHERE split = 'train'")
    register.execute("DELETE FROM problem WHERE path = 'train' OR path LIKE 'train/%'")


def photos(root: Path, folder: str) -> set[str]:
    """The files of a split's folder that `read` would list now; none if the folder does not exist."""
    with photo_register.temporary() as register:
        return set(_walk(register, root, folder))


def _file(name: str, folder: str, split: str) -> tuple[str, str, str | None, str | None]:
    """A row of the register's table `file`: path, split, label, normal."""
    label, inside, _ = name.removeprefix(f"{folder}/").partition("/")
    normal = unicodedata.normalize("NFC", name)
    return name, split, raw_tables.normal_label(label) if inside else None, normal if normal != name else None


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"{root}: does not exist; run `lineup photos FOLDER` on the folder with your photos, "
            "or `lineup demo`"
        )
    train = root / "train"
    if not train.is_dir() and (train.exists() or train.is_symlink()):
        kind = "a broken link" if train.is_symlink() else "a file"
        raise UserError(f"{train}: is {kind}; it must be a folder, or not exist at all")
    for name in ("test", "test/query", "test/gallery"):
        folder = root / name
        if not folder.is_dir():
            siblings = {
                entry.name.casefold(): entry.name
                for entry in folder.parent.iterdir()
                if entry.is_dir() and entry.name not in _FOLDER_NAMES
            }
            close = difflib.get_close_matches(folder.name, siblings, n=1, cutoff=0.6)
            fix = (
                f"rename '{siblings[close[0]]}' to '{folder.name}'"
                if close
                else "put photos into test/query and test/gallery"
            )
            raise UserError(f"{folder}: does not exist; {fix}")


def _walk(
    register: sqlite3.Connection,
    root: Path,
    folder: str,
    parents: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """The files below a folder, relative to root, in the disk's order.

    Links to folders are followed, but not in circles. os.walk would hold all names of a folder in memory.

    Args:
        folder: relative to root.
        parents: device and inode of each folder that it is in, below the split's own.
    """
    path = root / folder
    if not parents and not path.is_dir():
        return
    try:
        with os.scandir(path) as entries:
            status = path.stat()
            inode = (status.st_dev, status.st_ino)
            if inode in parents:
                photo_register.add_problem(
                    register, shown(folder), "is a link to a folder that it is in", unread=True
                )
                return
            if path.is_symlink():
                note = f"is a link to a folder; DVC doesn't look into it: {_AFTER_A_CHANGE}"
                photo_register.add_problem(register, shown(folder), note)
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if not is_photo_name(entry.name):
                    continue
                if _is_folder(entry):
                    yield from _walk(register, root, name, parents | {inode})
                elif shown(name) == name:
                    yield name
                else:
                    photo_register.add_problem(
                        register, shown(name), "has a name that is not UTF-8; rename it", skipped=True
                    )
    except OSError as error:
        if error.errno in {*OF_ALL_FILES, errno.EIO}:
            raise
        photo_register.add_problem(
            register,
            shown(folder),
            f"can't be read: {(error.strerror or 'unknown error').lower()}",
            skipped=True,
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # It is a link to itself.
        return False


def is_photo_name(name: str) -> bool:
    """Whether a file or folder of this name is looked at: it is not hidden, nor left by a file manager."""
    return not name.startswith(".") and name.lower() not in _NOT_PHOTOS


def shown(name: str) -> str:
    """The name with codes in the place of undecodable bytes, so that it can be written to a table."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _add_outside_files(register: sqlite3.Connection, root: Path) -> None:
    """Adds files and folders outside the splits to the problems, a folder as a whole.

    Raises:
        UserError: labels.csv, qrels.csv or attributes.csv is spelt with capitals.
    """
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
                if Path(name).stem.casefold().startswith(("label", "qrel", "attribute")) and entry.is_file():
                    log.warning(
                        "%s: is not read; labels are read from %s, judgements from %s, attributes from %s",
                        printable(entry.path),
                        *(root / table for table in _TABLES),
                    )
                if is_photo_name(entry.name):
                    fault = "is not read: it is outside train/, test/query/ and test/gallery/"
                    photo_register.add_problem(register, shown(name), fault, unread=True)
