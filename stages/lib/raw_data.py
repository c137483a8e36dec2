"""data/raw as its owner laid it out: photos in folders, labels.csv, qrels.csv. Reads names, never pixels."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.lib.errors import UserError, nearest

SPLITS = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
_LAYOUT = "train/, test/query/ and test/gallery/"
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


@dataclass(frozen=True)
class Judgement:
    """One line of qrels.csv, with names as they are on disk."""

    line: int
    query: str
    gallery: str
    relevance: int


def read(root: Path) -> RawData:
    """Lists the photos and their labels. Raises UserError for a missing or empty folder and for every fault of labels.csv."""
    _check_folders(root)
    problems: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for folder, split in SPLITS.items():
        for name in _walk(root, folder, problems):
            names[name] = split
            inside = PurePosixPath(name).relative_to(folder).parts
            if len(inside) > 1:
                labels[name] = _label(inside[0])
        if split != "train" and split not in names.values():
            raise UserError(f"{root / folder}: holds no files; put the {split} photos there, loose or in a folder per label")
    names = dict(sorted(names.items()))
    for name, label in _read_labels(root / "labels.csv", Names(root, names)).items():
        labels.pop(name, None)
        if label:
            labels[name] = label
    return RawData(root, names, labels, problems + _outside(root))


def read_judgements(data: RawData) -> list[Judgement]:
    """The lines of qrels.csv, none without the file. Raises UserError with the line of the first fault."""
    path, names, found = data.root / "qrels.csv", Names(data.root, data.names), []
    for line, (query, gallery, relevance) in _rows(path, ("query", "gallery", "relevance")):
        place = f"{path}: line {line}"
        if relevance not in ("1", "0", "-1"):
            raise UserError(f"{place}: relevance is {relevance!r}; it must be 1 (relevant), 0 (not) or -1 (junk)")
        pair = []
        for name, split in ((query, "query"), (gallery, "gallery")):
            pair.append(names.find(name, place))
            if data.names[pair[-1]] != split:
                raise UserError(f"{place}: {name!r} is in {data.names[pair[-1]]}, not in {split}; the columns are query,gallery,relevance")
        found.append(Judgement(line, *pair, int(relevance)))
    return found


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"{root}: is not there; put your photos into {root}/test/query and {root}/test/gallery, or run `python -m stages.demo`"
        )
    for folder in ("test/query", "test/gallery"):
        if (root / folder).is_dir():
            continue
        parent = root / folder if not (root / "test").is_dir() else root / "test"
        siblings = [entry.name for entry in root.iterdir()] if parent != root / "test" else [entry.name for entry in parent.iterdir()]
        wanted = folder.split("/")[0 if parent != root / "test" else 1]
        close = difflib.get_close_matches(wanted, siblings, n=1, cutoff=0.6)
        hint = f"rename '{close[0]}' to '{wanted}'" if close else f"put the {folder.split('/')[1]} photos there"
        raise UserError(f"{root / folder}: is not there; {hint}")


def _walk(root: Path, folder: str, problems: list[tuple[str, str]]) -> Iterator[str]:
    """Files below a folder, relative to root; follows links to folders, each folder once."""
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and str(error.filename) == str(root / folder):
            return  # no train folder is fine
        problems.append((_shown(os.path.relpath(error.filename, root)), f"can't be read: {(error.strerror or 'unknown').lower()}"))

    for at, folders, files in os.walk(root / folder, onerror=note, followlinks=True):
        status = os.stat(at)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _is_photo_name(name))
        for file in sorted(files):
            name = Path(at, file).relative_to(root).as_posix()
            if not _is_photo_name(file):
                continue
            if _shown(name) != name:
                problems.append((_shown(name), "has a name that is not UTF-8; rename it"))
                continue
            yield name


def _is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_PHOTOS


def _shown(name: str) -> str:
    """A name whose undecodable bytes can be written to a table."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _outside(root: Path) -> list[tuple[str, str]]:
    """What lies beside the folders that are read; a folder is told once."""
    told = []
    known = {"train", "test", "labels.csv", "qrels.csv", "test/query", "test/gallery"}
    for entry in [*root.iterdir(), *(root / "test").iterdir()]:
        name = entry.relative_to(root).as_posix()
        if name not in known and _is_photo_name(entry.name):
            told.append((_shown(name), f"is not read: it is outside {_LAYOUT}"))
    return told


def _label(text: str) -> str:
    """macOS decomposes accents in folder names; one identity must stay one label."""
    return unicodedata.normalize("NFC", text).strip()


def _read_labels(path: Path, names: Names) -> dict[str, str]:
    """labels.csv: name on disk -> label, empty where the file leaves it empty (unknown)."""
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, (name, label) in _rows(path, ("path", "label")):
        place = f"{path}: line {line}"
        found = names.find(name, place)
        if found in lines:
            raise UserError(f"{place}: {name!r} was already in line {lines[found]}; remove one of the two")
        lines[found], labels[found] = line, _label(label)
    return labels


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, the values of `columns`) of a CSV file with a header; other columns are left alone. Nothing without the file."""
    if not path.exists():
        return
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); mend its permissions or remove it") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}: is not UTF-8; save the file as 'CSV UTF-8'") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for column in columns:
            if column not in header:
                raise UserError(
                    f"{path}: line 1: has no column '{column}'{_column_hint(column, header)}; the header is {','.join(columns)}"
                )
            if header.count(column) > 1:
                raise UserError(f"{path}: line 1: has the column '{column}' twice; remove one")
        places = [header.index(column) for column in columns]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{path}: line {reader.line_num}: has {len(row)} values, the header {len(header)}; put a value with a comma into double quotes"
                )
            yield (
                reader.line_num,
                tuple(row[place].strip() if column != "path" else row[place] for column, place in zip(columns, places, strict=True)),
            )
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: is not valid CSV ({error})") from None


def _column_hint(column: str, header: list[str]) -> str:
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f" (values are separated by {word}; save it with commas)"
    return nearest(column, header) if any(header) else " (it is empty)"


class Names:
    """Finds the file that a CSV means, in whatever Unicode form and with whichever slashes it was written."""

    def __init__(self, root: Path, names: dict[str, str]) -> None:
        self._root, self._names = root, names
        self._normal: dict[str, list[str]] = {}
        for name in names:
            self._normal.setdefault(unicodedata.normalize("NFC", name), []).append(name)

    def find(self, text: str, place: str) -> str:
        """The name on disk. Raises UserError (beginning with `place`) if there is none or more than one."""
        if text in self._names:
            return text
        slashed = text.strip().replace("\\", "/")
        parts = [part for part in slashed.split("/") if part not in ("", ".")]
        if not parts:
            raise UserError(f"{place}: has no path; fill it in or remove the line")
        if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
            raise UserError(f"{place}: {text!r} is outside {self._root}; write paths relative to it, as test/query/photo.jpg")
        name = unicodedata.normalize("NFC", "/".join(parts))
        found = self._normal.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{place}: {text!r} could be any of {len(found)} files whose names look alike; rename them")
        if (self._root / Path(*parts)).is_file():
            raise UserError(f"{place}: {text!r} is not read: it is hidden, or outside {_LAYOUT}")
        raise UserError(f"{place}: {text!r} is not in {self._root}{self._suggestion(name)}")

    def _suggestion(self, name: str) -> str:
        """The nearest file: of the same file name, else the most alike among as many as can be compared at once."""
        file = PurePosixPath(name).name.casefold()
        alike = [known for known in self._normal if PurePosixPath(known).name.casefold() == file]
        alike = alike or [known for known in self._normal if PurePosixPath(known).stem.casefold() == PurePosixPath(name).stem.casefold()]
        alike = (
            alike or [known for known in self._normal if PurePosixPath(known).parent == PurePosixPath(name).parent] or list(self._normal)
        )
        close = difflib.get_close_matches(name, alike[:5_000], n=1, cutoff=0.4)
        return f"; did you mean '{close[0]}'?" if close else ""
