"""Finds the same picture, or the same label, in two places, by queries of the register of photos."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from lineup.photos.photo_register import add_problem

# The two splits of a pair are named in this order, which is the reverse of the alphabet's.
SPLITS = ("train", "query", "gallery")

# With min(path), SQLite gives the other columns of the same row (its documentation of SELECT, "bare columns
# in an aggregate query").
_LEAKS = """
CREATE INDEX photo_by_picture ON photo (pixels_id, image_id, split, label, part);

CREATE TEMP TABLE first_of_bytes AS
    SELECT image_id, split, pixels_id, min(path) AS path FROM photo
    WHERE pixels_id IN (SELECT pixels_id FROM photo GROUP BY pixels_id HAVING count(*) > 1)
    GROUP BY pixels_id, image_id, split;
CREATE TEMP TABLE first_of_pixels AS
    SELECT pixels_id, split, image_id, min(path) AS path FROM first_of_bytes GROUP BY pixels_id, split;
CREATE TEMP TABLE first_of_label AS
    SELECT label, split, min(path) AS path FROM photo
    WHERE label IN (SELECT label FROM photo WHERE part = 'train') GROUP BY label, split;

INSERT INTO leak SELECT 'same_bytes', first.path, photo.path, split
    FROM photo JOIN first_of_bytes AS first USING (image_id, split) WHERE photo.path != first.path;
INSERT INTO leak SELECT 'same_bytes', a.path, b.path, a.split || '-' || b.split
    FROM first_of_bytes AS a JOIN first_of_bytes AS b USING (image_id) WHERE a.split > b.split;

INSERT INTO leak SELECT 'same_pixels', first.path, other.path, split
    FROM first_of_bytes AS other JOIN first_of_pixels AS first USING (pixels_id, split)
    WHERE other.path != first.path;
INSERT INTO leak SELECT 'same_pixels', a.path, b.path, a.split || '-' || b.split
    FROM first_of_pixels AS a JOIN first_of_pixels AS b USING (pixels_id)
    WHERE a.split > b.split AND a.image_id != b.image_id;

INSERT INTO leak SELECT 'same_label', a.path, b.path, a.split || '-' || b.split
    FROM first_of_label AS a JOIN first_of_label AS b USING (label)
    WHERE a.split = 'train' AND b.split != 'train';

DROP TABLE first_of_bytes; DROP TABLE first_of_pixels; DROP TABLE first_of_label;
"""

_CONTRADICTIONS = """
WITH doubtful AS (SELECT pixels_id FROM photo GROUP BY pixels_id HAVING min(label) != max(label)),
     labelled AS (
         SELECT path, part, label, pixels_id FROM photo
         WHERE pixels_id IN doubtful AND label IS NOT NULL
     ),
     first AS (SELECT pixels_id, part, label, min(path) AS path FROM labelled GROUP BY pixels_id, part)
SELECT first.path, first.label, other.path, other.label, FALSE
    FROM labelled AS other JOIN first USING (pixels_id, part) WHERE other.label != first.label
UNION ALL SELECT a.path, a.label, b.path, b.label, TRUE
    FROM first AS a JOIN first AS b USING (pixels_id)
    WHERE a.part = 'train' AND b.part = 'test' AND a.label != b.label
ORDER BY 1, 3
"""


class Leak(NamedTuple):
    """A pair of files that share bytes, pixels or a label.

    Attributes:
        kind: same_bytes, same_pixels or same_label.
        across: the split of both, such as "gallery", or their two splits, such as "train-query".
    """

    kind: str
    path_a: str
    path_b: str
    across: str


class Contradiction(NamedTuple):
    """A pair of files that show one picture under two labels.

    Attributes:
        crosses_parts: 1 if one file is in train and the other in test, else 0.
    """

    path_a: str
    label_a: str
    path_b: str
    label_b: str
    crosses_parts: int


def find_leaks(register: sqlite3.Connection) -> None:
    """Fills the register's table `leak`.

    It gets pairs of files with the same bytes, with the same pixels in other bytes, and, between train and
    test, with the same label. Of n equal files in one split it gets n - 1 pairs, between two splits one pair,
    and of a label one pair for each split of the test.
    """
    register.executescript(_LEAKS)


def leaks(register: sqlite3.Connection) -> Iterator[Leak]:
    """The pairs that `find_leaks` found, sorted."""
    return map(Leak._make, register.execute("SELECT * FROM leak ORDER BY kind, path_a, path_b, across"))


def contradictions(register: sqlite3.Connection) -> Iterator[Contradiction]:
    """Pairs of files that show one picture under two labels, sorted.

    Within train and within test, each pair is the picture's first file and one that contradicts it. Between
    train and test there is one pair for a picture.
    """
    return map(Contradiction._make, register.execute(_CONTRADICTIONS))


def note_contradictions(register: sqlite3.Connection) -> int:
    """Adds pictures under two labels to the problems. Returns the number of pairs."""
    pairs = 0
    for pair in contradictions(register):
        consequence = "each keeps its own" if pair.crosses_parts else "neither label is used"
        note = (
            f"is labelled {pair.label_b!r}, but {pair.path_a!r} is the same image "
            f"and labelled {pair.label_a!r}: {consequence}"
        )
        add_problem(register, pair.path_b, note)
        pairs += 1
    return pairs
