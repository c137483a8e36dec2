"""The same picture, or the same label, in two places: questions to the register of photos."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

SPLITS = ("train", "query", "gallery")  # pairs are told in this order, which is that of the names from z to a

# min(path) takes its row's other columns with it (SQLite's documentation of SELECT, "bare columns in an
# aggregate query").
_LEAKS = """
CREATE INDEX photo_by_picture ON photo (pixels_id, image_id, split, label, part);

CREATE TEMP TABLE first_of_bytes AS SELECT image_id, split, pixels_id, min(path) AS path FROM photo
    WHERE pixels_id IN (SELECT pixels_id FROM photo GROUP BY pixels_id HAVING count(*) > 1) GROUP BY pixels_id, image_id, split;
CREATE TEMP TABLE first_of_pixels AS SELECT pixels_id, split, image_id, min(path) AS path FROM first_of_bytes GROUP BY pixels_id, split;
CREATE TEMP TABLE first_of_label AS SELECT label, split, min(path) AS path FROM photo
    WHERE label IN (SELECT label FROM photo WHERE part = 'train') GROUP BY label, split;

INSERT INTO leak SELECT 'same_bytes', first.path, photo.path, split
    FROM photo JOIN first_of_bytes AS first USING (image_id, split) WHERE photo.path != first.path;
INSERT INTO leak SELECT 'same_bytes', a.path, b.path, a.split || '-' || b.split
    FROM first_of_bytes AS a JOIN first_of_bytes AS b USING (image_id) WHERE a.split > b.split;

INSERT INTO leak SELECT 'same_pixels', first.path, other.path, split
    FROM first_of_bytes AS other JOIN first_of_pixels AS first USING (pixels_id, split) WHERE other.path != first.path;
INSERT INTO leak SELECT 'same_pixels', a.path, b.path, a.split || '-' || b.split
    FROM first_of_pixels AS a JOIN first_of_pixels AS b USING (pixels_id) WHERE a.split > b.split AND a.image_id != b.image_id;

INSERT INTO leak SELECT 'same_label', a.path, b.path, a.split || '-' || b.split
    FROM first_of_label AS a JOIN first_of_label AS b USING (label) WHERE a.split = 'train' AND b.split != 'train';

DROP TABLE first_of_bytes; DROP TABLE first_of_pixels; DROP TABLE first_of_label;
"""

_CONTRADICTIONS = """
WITH doubtful AS (SELECT pixels_id FROM photo GROUP BY pixels_id HAVING min(label) != max(label)),
     labelled AS (SELECT path, part, label, pixels_id FROM photo WHERE pixels_id IN doubtful AND label IS NOT NULL),
     first AS (SELECT pixels_id, part, label, min(path) AS path FROM labelled GROUP BY pixels_id, part)
SELECT first.path, first.label, other.path, other.label, FALSE
    FROM labelled AS other JOIN first USING (pixels_id, part) WHERE other.label != first.label
UNION ALL SELECT a.path, a.label, b.path, b.label, TRUE
    FROM first AS a JOIN first AS b USING (pixels_id) WHERE a.part = 'train' AND b.part = 'test' AND a.label != b.label
ORDER BY 1, 3
"""


class Leak(NamedTuple):
    kind: str  # same_bytes | same_pixels | same_label
    path_a: str
    path_b: str
    across: str  # "gallery" (within it) or "train-query"


class Contradiction(NamedTuple):
    path_a: str
    label_a: str
    path_b: str
    label_b: str
    apart: int  # 1 if one is in train and the other in test


def find_leaks(register: sqlite3.Connection) -> None:
    """Fills `leak`: pairs of files with the same bytes, other bytes but the same pixels, or (of train and
    test) the same label.

    Of n equal files in a split, n - 1 pairs are told; between two splits one, and of a label one per test
    split.
    """
    register.executescript(_LEAKS)


def leaks(register: sqlite3.Connection) -> Iterator[Leak]:
    """What was found, sorted."""
    return map(Leak._make, register.execute("SELECT * FROM leak ORDER BY kind, path_a, path_b, across"))


def contradictions(register: sqlite3.Connection) -> Iterator[Contradiction]:
    """Pairs of files that show one picture under two labels, sorted: the first file, and each that
    contradicts it.

    Within train and within test; between the two, one pair per picture.
    """
    return map(Contradiction._make, register.execute(_CONTRADICTIONS))
