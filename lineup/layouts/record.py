"""data/raw/sources.csv: which photo of the source each file of data/raw is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError
from lineup.photos.raw_folder import SOURCES
from lineup.storage import csv_files


class Entry(NamedTuple):
    """A photo of data/raw.

    Attributes:
        path: below data/raw.
        source: its name below the source, with codes in the place of bytes that are not UTF-8.
        label: as the source had it; empty if it has none.
    """

    path: str
    source: str
    label: str


def read(root: Path) -> list[Entry]:
    """What an earlier `lineup photos` laid out; nothing if the folder is empty or does not exist.

    Raises:
        UserError: somebody else laid out the folder.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return []
    try:
        return [Entry(**row) for row in csv_files.read_csv(root / SOURCES)]
    except (UserError, TypeError, NotADirectoryError):
        raise UserError(
            f"{root}: holds something that `lineup photos` did not lay out (there is no valid {SOURCES}); "
            "move it away"
        ) from None


def text(entries: Iterable[Entry]) -> str:
    """The content of sources.csv."""
    return csv_files.csv_text(Entry._fields, sorted(entries))
