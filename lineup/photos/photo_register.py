"""What preprocess knows of the photos, in a temporary database: memory does not grow with their number.

SQLite holds some megabytes of it in memory and the rest in a file without a name, which disappears with the
process, however that ends. It sorts text by code points, as Python does.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from lineup.errors import UserError

_SCHEMA = """
CREATE TABLE file (             -- every file of a split, before any is opened
    path TEXT PRIMARY KEY,      -- below data/raw
    split TEXT NOT NULL,        -- train | query | gallery
    label TEXT,                 -- null: unknown
    normal TEXT,                -- the path in Unicode's form NFC, where that differs
    label_line INTEGER          -- the line of labels.csv that decided the label
) WITHOUT ROWID;
CREATE INDEX file_by_normal ON file (normal) WHERE normal IS NOT NULL;

CREATE TABLE judgement (        -- qrels.csv
    line INTEGER PRIMARY KEY, query TEXT NOT NULL, gallery TEXT NOT NULL, relevance INTEGER NOT NULL
);

CREATE TABLE attribute (        -- attributes.csv
    about TEXT NOT NULL,        -- path | label
    name TEXT NOT NULL,         -- the photo's path, or the label
    line INTEGER NOT NULL,
    cells TEXT NOT NULL,        -- JSON: a text for each of the user's columns
    PRIMARY KEY (about, name)
) WITHOUT ROWID;

CREATE TABLE photo (            -- every readable file
    path TEXT PRIMARY KEY,
    split TEXT NOT NULL,
    part TEXT AS (iif(split = 'train', 'train', 'test')),  -- so that a new test photo retrains nothing
    label TEXT,
    image_id TEXT NOT NULL, pixels_id TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, format TEXT NOT NULL,
    prepared_id TEXT            -- null: the file's own bytes are stored
) WITHOUT ROWID;

CREATE TABLE problem (
    path TEXT NOT NULL, problem TEXT NOT NULL,
    skipped INTEGER NOT NULL,   -- a file of a split that can't be used
    unread INTEGER NOT NULL     -- a file outside the splits; if both are 0, the file is used: a mere note
);

CREATE TABLE leak (kind TEXT NOT NULL, path_a TEXT NOT NULL, path_b TEXT NOT NULL, across TEXT NOT NULL);

CREATE VIEW judged AS           -- judgements of readable photos, with their image ids
    SELECT query.image_id AS query_id, gallery.image_id AS gallery_id, judgement.*
    FROM judgement JOIN photo AS query ON query.path = judgement.query
    JOIN photo AS gallery ON gallery.path = judgement.gallery;
"""

# A picture that has two labels within a part gets no label. Photos of the same image come in succession.
_IMAGES = """
WITH doubtful AS (
    SELECT pixels_id FROM photo WHERE part = :part GROUP BY pixels_id HAVING min(label) != max(label)
)
SELECT image_id, split, iif(pixels_id IN doubtful, NULL, label), path, pixels_id, width, height, format,
    prepared_id
FROM photo WHERE part = :part ORDER BY image_id, split, path
"""


class Image(NamedTuple):
    """One row of a manifest, with prepared_id.

    Attributes:
        paths: of all photos (files) that hold the image in this split, sorted.
        prepared_id: None if the file's own bytes are stored.
    """

    image_id: str
    split: str
    label: str | None
    paths: list[str]
    pixels_id: str
    width: int
    height: int
    format: str
    prepared_id: str | None


@contextmanager
def temporary() -> Iterator[sqlite3.Connection]:
    """An empty register, which is removed at the end of the block.

    Raises:
        OSError: the disk is full (ENOSPC).
        UserError: SQLite can't write its temporary file.
    """
    register = sqlite3.connect("")
    try:
        # Nothing is ever rolled back, so no journal is needed.
        register.executescript(f"PRAGMA journal_mode = OFF; PRAGMA temp_store = FILE; {_SCHEMA}")
        yield register
    except sqlite3.OperationalError as error:
        # The cause is a quota, `ulimit -f` or the folder; SQLite's message does not tell which.
        if "disk I/O error" in str(error) or "unable to open" in str(error):
            raise UserError(
                "SQLite's temporary file can't be written; free some space, raise the quota or `ulimit -f`, "
                "or let the variable SQLITE_TMPDIR name another disk, and run again: nothing finished is lost"
            ) from None
        if "full" not in str(error):
            raise
        raise OSError(
            errno.ENOSPC,
            os.strerror(errno.ENOSPC),
            "SQLite's temporary file; the variable SQLITE_TMPDIR moves it",
        ) from error
    finally:
        register.close()


def scalar(register: sqlite3.Connection, query: str, *parameters: str) -> int:
    """The one number that a query selects."""
    return register.execute(query, parameters).fetchone()[0]


def add_problem(
    register: sqlite3.Connection, path: str, problem: str, skipped: bool = False, unread: bool = False
) -> None:
    """Adds a row to the table `problem`; if neither skipped nor unread, the file is used all the same."""
    register.execute("INSERT INTO problem VALUES (?, ?, ?, ?)", (path, problem, skipped, unread))


def images(register: sqlite3.Connection, part: str) -> Iterator[Image]:
    """The images of train or test, sorted by (image_id, split)."""
    rows = register.execute(_IMAGES, {"part": part})
    for (image_id, split), group in groupby(rows, key=itemgetter(0, 1)):
        photos = list(group)
        label = next((photo[2] for photo in photos if photo[2] is not None), None)
        yield Image(image_id, split, label, [photo[3] for photo in photos], *photos[0][4:])


def count_images(register: sqlite3.Connection, part: str) -> int:
    """The number of different images of a part, each counted once a split."""
    return scalar(
        register, "SELECT count(*) FROM (SELECT DISTINCT image_id, split FROM photo WHERE part = ?)", part
    )
