"""What labels.csv and qrels.csv say of the photos in data/raw."""

from __future__ import annotations

import sqlite3
import unicodedata
from pathlib import Path

from lineup.errors import UserError
from lineup.photos import raw_csv
from lineup.photos.photo_names import PhotoNames


def normal_label(text: str) -> str | None:
    """A label in Unicode's form NFC, without spaces around it; None if nothing is left.

    macOS decomposes accents in folder names, and one identity must have one label.
    """
    return unicodedata.normalize("NFC", text).strip() or None


def read_labels(register: sqlite3.Connection, root: Path) -> None:
    """Sets the labels of the files that labels.csv names, to unknown where it leaves a label empty.

    Without the file nothing is set.

    Raises:
        UserError: the file has a fault.
    """
    path, names = root / "labels.csv", PhotoNames(register, root)
    for line, (name, label) in raw_csv.rows(path, ("path", "label")):
        photo = names.find(name, f"{path}: line {line}")
        (earlier,) = register.execute("SELECT label_line FROM file WHERE path = ?", (photo,)).fetchone()
        if earlier is not None:
            raise UserError(
                f"{path}: line {line}: {name!r} was already in line {earlier}; remove one of the two"
            )
        register.execute(
            "UPDATE file SET label = ?, label_line = ? WHERE path = ?", (normal_label(label), line, photo)
        )


def read_judgements(register: sqlite3.Connection, root: Path) -> int | None:
    """Adds the lines of qrels.csv to the register, with names as they are on disk.

    Returns:
        The number of judgements; None if the file does not exist.
    Raises:
        UserError: the file has a fault.
    """
    path, names, count = root / "qrels.csv", PhotoNames(register, root), 0
    if not path.exists() and not path.is_symlink():
        return None
    for line, (query, gallery, relevance) in raw_csv.rows(path, ("query", "gallery", "relevance")):
        source = f"{path}: line {line}"
        if relevance.strip() not in ("1", "0", "-1"):
            raise UserError(
                f"{source}: relevance is {relevance!r}; it must be 1 (relevant), 0 (not) or -1 (junk)"
            )
        pair = {"query": names.find(query, source), "gallery": names.find(gallery, source)}
        for column, name in pair.items():
            (split,) = register.execute("SELECT split FROM file WHERE path = ?", (name,)).fetchone()
            if split != column:
                raise UserError(
                    f"{source}: {name!r} is in {split}, not in {column}; "
                    "the columns are query,gallery,relevance"
                )
        register.execute("INSERT INTO judgement VALUES (?, ?, ?, ?)", (line, *pair.values(), int(relevance)))
        count += 1
    return count
