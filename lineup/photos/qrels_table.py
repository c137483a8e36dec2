"""The table of judgements: the lines of qrels.csv, which name files, as judgements of images."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lineup.errors import UserError
from lineup.photos.photo_register import add_problem, scalar


def check(register: sqlite3.Connection, root: Path) -> None:
    """Raises UserError if two lines of qrels.csv contradict each other about the same images."""
    contradictory = register.execute("""
        SELECT line, relevance, query, gallery, first_line, first_relevance
        FROM (SELECT *, first_value(line) OVER pair AS first_line,
                     first_value(relevance) OVER pair AS first_relevance
              FROM judged WINDOW pair AS (PARTITION BY query_id, gallery_id ORDER BY line))
        WHERE relevance != first_relevance ORDER BY line LIMIT 1
    """)
    for line, relevance, query, gallery, first_line, first_relevance in contradictory:
        raise UserError(
            f"{root / 'qrels.csv'}: line {line}: says {relevance} of {query!r} and {gallery!r}, "
            f"but line {first_line} says {first_relevance} of the same images; remove one of the two"
        )


def rows(register: sqlite3.Connection) -> Iterator[tuple[str, str, int]]:
    """Rows of schemas.QRELS: judgements by image id, sorted, without those about unreadable files.

    A gallery image with the very pixels of one that is judged relevant is relevant, too, unless it is judged
    itself.
    """
    judgements = register.execute("""
        WITH copies AS (
            SELECT query_id, copy.image_id AS gallery_id FROM judged
            JOIN photo AS original ON original.path = judged.gallery
            JOIN photo AS copy USING (pixels_id)
            WHERE relevance = 1 AND copy.split = 'gallery' AND copy.image_id != original.image_id
        )
        SELECT query_id, gallery_id, relevance, min(derived) FROM (
            SELECT query_id, gallery_id, relevance, 0 AS derived FROM judged
            UNION ALL SELECT query_id, gallery_id, 1, 1 FROM copies
        ) GROUP BY 1, 2 ORDER BY 1, 2
    """)
    return (judgement[:3] for judgement in judgements)


def metadata(register: sqlite3.Connection, lines: int | None) -> dict[str, str] | None:
    """The metadata of schemas.QRELS: how many judgements there are, and how many of them are left out.

    Adds judgements that are left out to the problems.

    Args:
        lines: the number of judgements in qrels.csv; None, which is also returned, if it does not exist.
    """
    if lines is None:
        return None
    used = scalar(register, "SELECT count(*) FROM judged")
    fault, left_out = "holds no judgement", lines - used
    if left_out:
        line = scalar(register, "SELECT min(line) FROM judgement WHERE line NOT IN (SELECT line FROM judged)")
        fault = (
            f"{left_out} of {lines} judgements are left out, about photos that can't be read; "
            f"the first is in line {line}"
        )
    if left_out or not used:
        labelled = scalar(
            register, "SELECT EXISTS (SELECT 1 FROM photo WHERE split = 'query' AND label IS NOT NULL)"
        )
        consequence = "labels say which images are relevant" if labelled else "nothing can be scored"
        add_problem(register, "qrels.csv", fault + ("" if used else f": {consequence}"))
    return {"judgements": str(lines), "left_out": str(left_out)}
