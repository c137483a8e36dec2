"""How many photos and labels data/raw has. Only names are listed: no photo is opened."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lineup.errors import UserError
from lineup.photos import photo_register, raw_attributes, raw_folder, raw_tables

SPLITS = tuple(raw_folder.SPLITS.values())


@dataclass(frozen=True)
class SplitCounts:
    """Files of a split, how many different labels they have, and how many files have none."""

    photos: int
    labels: int
    unlabelled: int


@dataclass(frozen=True)
class Judged:
    """Lines of qrels.csv, and how many queries they judge; `answered`: with at least one relevant photo."""

    lines: int
    queries: int
    answered: int


@dataclass(frozen=True)
class RawCounts:
    """What data/raw holds.

    Attributes:
        splits: by split, in the order train, query, gallery.
        training: how many training photos each label has; under None, how many have no label.
        labelled_in_table: how many photos labels.csv names; None if it does not exist.
        same_label: how many queries have a gallery photo of their label.
        judged: of qrels.csv; None if it does not exist.
        attributes: the columns of attributes.csv; none if it does not exist.
        problems: the first files or folders with one, as (path, the end of a sentence); ignored: how many
            there are.
    """

    splits: dict[str, SplitCounts]
    training: Counter[str | None]
    labelled_in_table: int | None
    same_label: int
    judged: Judged | None
    attributes: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]
    ignored: int

    @property
    def photos(self) -> int:
        """The number of files in all splits."""
        return sum(split.photos for split in self.splits.values())

    @property
    def test_photos(self) -> int:
        """The number of files among queries and gallery."""
        return self.photos - self.splits["train"].photos

    @property
    def answerable(self) -> int | None:
        """How many queries can have an answer: by qrels.csv if it judges any pair, else by labels.

        None without labels and judgements.
        """
        if self.judged and self.judged.lines:
            return self.judged.answered
        query = self.splits["query"]
        return self.same_label if query.unlabelled < query.photos else None


_SHOWN_PROBLEMS = 3


def read(register: sqlite3.Connection, root: Path) -> RawCounts:
    """Fills an empty register with the photos of data/raw, and counts them.

    Raises:
        UserError: a folder is missing or empty, or a table has a fault.
    """
    raw_folder.read(register, root)
    judgements = raw_tables.read_judgements(register, root)
    scalar = photo_register.scalar
    judged = None
    if judgements is not None:
        queries = "SELECT count(DISTINCT query) FROM judgement"
        judged = Judged(
            judgements, scalar(register, queries), scalar(register, f"{queries} WHERE relevance = 1")
        )
    table = root / "labels.csv"
    return RawCounts(
        splits={split: _split_counts(register, split) for split in SPLITS},
        training=_training(register),
        labelled_in_table=scalar(register, "SELECT count(*) FROM file WHERE label_line IS NOT NULL")
        if table.exists()
        else None,
        same_label=scalar(
            register,
            "SELECT count(*) FROM file WHERE split = 'query' "
            "AND label IN (SELECT label FROM file WHERE split = 'gallery')",
        ),
        judged=judged,
        attributes=tuple(column.name for column in raw_attributes.read(register, root)),
        problems=tuple(
            register.execute(f"SELECT path, problem FROM problem ORDER BY path LIMIT {_SHOWN_PROBLEMS}")
        ),
        ignored=scalar(register, "SELECT count(*) FROM problem"),
    )


def training(root: Path) -> Counter[str | None] | None:
    """How many training photos each label has; None if data/raw is not laid out, or has a fault."""
    with photo_register.temporary() as register:
        try:
            raw_folder.read(register, root)
        except UserError:
            return None
        return _training(register)


def spread(register: sqlite3.Connection, count: int) -> Iterator[str]:
    """The paths of `count` photos, or of all if there are fewer, spread evenly over the sorted paths."""
    total = photo_register.scalar(register, "SELECT count(*) FROM file")
    for position in range(min(count, total)):
        offset = position * total // min(count, total)
        yield register.execute(f"SELECT path FROM file ORDER BY path LIMIT 1 OFFSET {offset}").fetchone()[0]


def _split_counts(register: sqlite3.Connection, split: str) -> SplitCounts:
    counts = "SELECT count(*), count(DISTINCT label), count(*) - count(label) FROM file WHERE split = ?"
    return SplitCounts(*register.execute(counts, (split,)).fetchone())


def _training(register: sqlite3.Connection) -> Counter[str | None]:
    by_label = "SELECT label, count(*) FROM file WHERE split = 'train' GROUP BY label"
    return Counter(dict(register.execute(by_label)))
