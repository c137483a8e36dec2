"""labels.csv and qrels.csv as a user wrote them: every fault is told with its line and the nearest fix."""

from __future__ import annotations

import csv
import difflib
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.lib.errors import UserError, nearest

_MOST_COMPARED = 5_000  # names, for a suggestion


@dataclass(frozen=True)
class Judgement:
    """One line of qrels.csv, with names as they are on disk."""

    line: int
    query: str
    gallery: str
    relevance: int


class Names:
    """Finds the file that a CSV means, in whatever Unicode form and with whichever slashes it was written."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root, self._names = root, frozenset(names)
        self._normal: dict[str, list[str]] = {}
        for name in sorted(self._names):
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
        if self._exists(parts):
            raise UserError(f"{place}: {text!r} is no photo: it is hidden, or outside train/, test/query/ and test/gallery/")
        raise UserError(f"{place}: {text!r} is not in {self._root}{self._suggestion(name)}")

    def _exists(self, parts: list[str]) -> bool:
        try:
            return self._root.joinpath(*parts).exists()
        except (OSError, ValueError):  # too long for a name, or a zero byte
            return False

    def _suggestion(self, name: str) -> str:
        """The nearest file: of the same file name, else of the same stem, else in the same folder."""
        wanted = PurePosixPath(name)
        known = {path: PurePosixPath(path) for path in self._normal}
        for alike in (
            [path for path, pure in known.items() if pure.name.casefold() == wanted.name.casefold()],
            [path for path, pure in known.items() if pure.stem.casefold() == wanted.stem.casefold()],
            [path for path, pure in known.items() if pure.parent == wanted.parent],
            list(known),
        ):
            close = difflib.get_close_matches(name, alike[:_MOST_COMPARED], n=1, cutoff=0.4)
            if close:
                return f"; did you mean '{close[0]}'?"
        return ""


def normal_label(text: str) -> str:
    """macOS decomposes accents in folder names; one identity must stay one label (and one string in memory)."""
    return sys.intern(unicodedata.normalize("NFC", text).strip())


def read_labels(root: Path, names: Names) -> dict[str, str]:
    """labels.csv: name on disk -> label, empty where the file leaves it empty (unknown). Nothing without the file."""
    path = root / "labels.csv"
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, (name, label) in _rows(path, ("path", "label")):
        found = names.find(name, f"{path}: line {line}")
        if found in lines:
            raise UserError(f"{path}: line {line}: {name!r} was already in line {lines[found]}; remove one of the two")
        lines[found], labels[found] = line, normal_label(label)
    return labels


def read_judgements(root: Path, splits: dict[str, str]) -> list[Judgement]:
    """The lines of qrels.csv, none without the file. splits: name on disk -> its split."""
    path, names, found = root / "qrels.csv", Names(root, splits), []
    for line, (query, gallery, relevance) in _rows(path, ("query", "gallery", "relevance")):
        place = f"{path}: line {line}"
        if relevance.strip() not in ("1", "0", "-1"):
            raise UserError(f"{place}: relevance is {relevance!r}; it must be 1 (relevant), 0 (not) or -1 (junk)")
        judgement = Judgement(line, names.find(query, place), names.find(gallery, place), int(relevance))
        for name, split in ((judgement.query, "query"), (judgement.gallery, "gallery")):
            if splits[name] != split:
                raise UserError(f"{place}: {name!r} is in {splits[name]}, not in {split}; the columns are query,gallery,relevance")
        found.append(judgement)
    return found


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, the values of `columns`) of a CSV file with a header; other columns are left alone. Nothing without the file."""
    if not path.exists():
        return
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for column in columns:
            if header.count(column) != 1:
                fault = f"the column '{column}' twice; remove one" if column in header else f"no column '{column}'{_hint(column, header)}"
                raise UserError(f"{path}: line 1: has {fault}; the header is {','.join(columns)}")
        places = [header.index(column) for column in columns]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                fix = "put a value that holds a comma into double quotes"
                raise UserError(f"{path}: line {reader.line_num}: has {len(row)} values, the header {len(header)}; {fix}")
            yield reader.line_num, tuple(row[place] for place in places)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: is not valid CSV ({error})") from None


def _text(path: Path) -> str:
    data = b""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); mend its permissions or remove it") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}: is not UTF-8; save the file as 'CSV UTF-8'") from None


def _hint(column: str, header: list[str]) -> str:
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f" (values are separated by {word}; save it with commas)"
    return nearest(column, header) if any(header) else " (it is empty)"
