"""data/raw as its owner laid it out: photos in folders, perhaps labels.csv. Reads names, never pixels."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stages.lib import raw_tables
from stages.lib.errors import UserError

SPLITS = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
_FOLDERS = ("train", "test", "query", "gallery")
_KNOWN = {*SPLITS, "test", "labels.csv", "qrels.csv"}
_AFTER_A_CHANGE = "after a change there run `dvc repro -f preprocess`, or link data/raw as a whole"
_NOT_PHOTOS = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # what file managers leave behind


@dataclass(frozen=True)
class RawData:
    """names: every file of a split by its path below data/raw, sorted -> its split.

    labels: by the same path, only where known; problems: (path, reason) of what was not read.
    """

    root: Path
    names: dict[str, str]
    labels: dict[str, str]
    problems: list[tuple[str, str]] = field(default_factory=list)


def read(root: Path) -> RawData:
    """Lists the photos and their labels. Raises UserError for a missing or empty folder and for every fault of labels.csv.

    A photo's label is its first folder below train/, query/ or gallery/; labels.csv wins, also where it leaves a label empty.
    """
    _check_folders(root)
    problems: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for folder, split in SPLITS.items():
        for name in _walk(root, folder, problems):
            names[name] = split
            label, inside, _ = name.removeprefix(f"{folder}/").partition("/")
            if inside:
                labels[name] = raw_tables.normal_label(label)
        if split != "train" and split not in names.values():
            raise UserError(f"{root / folder}: holds no files; put the {split} photos there, loose or in a folder per label")
    names = dict(sorted(names.items()))
    labels |= raw_tables.read_labels(root, raw_tables.Names(root, names))
    return RawData(root, names, {name: label for name, label in labels.items() if label}, problems + _outside(root))


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"{root}: is not there; put your photos into {root / 'test/query'} and {root / 'test/gallery'}, or run `python -m stages.demo`"
        )
    for folder in ("test", "test/query", "test/gallery"):
        place = root / folder
        if not place.is_dir():
            there = {entry.name.casefold(): entry.name for entry in place.parent.iterdir() if entry.is_dir() and entry.name not in _FOLDERS}
            close = difflib.get_close_matches(place.name, there, n=1, cutoff=0.6)
            hint = f"rename '{there[close[0]]}' to '{place.name}'" if close else "put photos into test/query and test/gallery"
            raise UserError(f"{place}: is not there; {hint}")


def _walk(root: Path, folder: str, problems: list[tuple[str, str]]) -> Iterator[str]:
    """Files below a folder, relative to root. Links to folders are followed, but not round in circles."""
    above: dict[str, frozenset[tuple[int, int]]] = {}  # folder -> itself and those it lies in

    def note(error: OSError) -> None:
        problems.append((_shown(os.path.relpath(error.filename, root)), f"can't be read: {(error.strerror or 'unknown error').lower()}"))

    if not (root / folder).is_dir():
        return
    for at, folders, files in os.walk(root / folder, onerror=note, followlinks=True):
        status = Path(at).stat()
        itself, ancestors = (status.st_dev, status.st_ino), above.get(str(Path(at).parent), frozenset())
        place = os.path.relpath(at, root).replace(os.sep, "/")
        if itself in ancestors:
            problems.append((_shown(place), "is a link to a folder that it lies in"))
            folders.clear()
            continue
        if Path(at).is_symlink():
            problems.append((_shown(place), f"is a link to a folder; DVC doesn't look into it: {_AFTER_A_CHANGE}"))
        above[str(Path(at))] = ancestors | {itself}
        folders[:] = sorted(filter(_is_photo_name, folders))
        for file in filter(_is_photo_name, sorted(files)):
            name = f"{place}/{file}"
            if _shown(name) == name:
                yield name
            else:
                problems.append((_shown(name), "has a name that is not UTF-8; rename it"))


def _is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_PHOTOS


def _shown(name: str) -> str:
    """A name whose undecodable bytes can be written to a table."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _outside(root: Path) -> list[tuple[str, str]]:
    """What lies beside the folders that are read; a folder is told once."""
    entries = {entry.relative_to(root).as_posix() for folder in (root, root / "test") for entry in folder.iterdir()}
    return [
        (_shown(name), "is not read: it is outside train/, test/query/ and test/gallery/")
        for name in entries - _KNOWN
        if _is_photo_name(name.rpartition("/")[2])
    ]
