"""What preprocess prints at the end: how many photos of which sizes it prepared, and what is amiss."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lineup.photos import duplicates, problems
from lineup.photos.photo_register import scalar
from lineup.photos.preparation import Preparation


def summary(
    register: sqlite3.Connection, contradictions: int, shorter_side_px: int, given: Preparation
) -> Iterator[str]:
    """What the user should know at the end, a line for each fact.

    Args:
        contradictions: the number of pairs of equal images under two labels.
        shorter_side_px: to which images were shrunk.
        given: the files that were written.
    """
    images = dict(register.execute("SELECT split, count(DISTINCT image_id) FROM photo GROUP BY split"))
    files = scalar(register, "SELECT count(*) FROM file")
    yield (
        ", ".join(f"{images.get(split, 0)} {split}" for split in duplicates.SPLITS)
        + f" images of {files} files"
    )
    if images:
        yield _sizes(register, shorter_side_px)
    if contradictions:
        yield f"pairs of equal images under two labels: {contradictions}"
    yield from _leaks(register, given.leaks)
    yield from problems.summary(register, given.problems)


def _sizes(register: sqlite3.Connection, shorter_side_px: int) -> str:
    sides = "SELECT min(width, height) AS side, prepared_id FROM photo GROUP BY image_id, split"
    query = (
        "SELECT min(side), max(side), count(*), "
        f"count(*) FILTER (WHERE side > ? AND prepared_id IS NOT NULL) FROM ({sides})"
    )
    [(smallest, largest, images, shrunk)] = register.execute(query, (shorter_side_px,))
    shown = f"{smallest:,} to {largest:,}" if smallest < largest else f"{smallest:,}"
    return f"shorter sides: {shown} px; shrunk to {shorter_side_px} px: {shrunk:,} of {images:,} images"


def _leaks(register: sqlite3.Connection, table: Path | None) -> Iterator[str]:
    """What training has seen of the test, and equal images, which are in `table` if there is one."""
    trained = (
        "SELECT DISTINCT image_id, split FROM photo WHERE part = 'test' "
        "AND pixels_id IN (SELECT pixels_id FROM photo WHERE part = 'train')"
    )
    if both := scalar(register, f"SELECT count(*) FROM ({trained})"):
        yield f"LEAK: test images that are also in train: {both}; a trained model has seen them"
    if shared := scalar(register, "SELECT count(DISTINCT path_a) FROM leak WHERE kind = 'same_label'"):
        yield (
            f"LEAK: labels in both train and test: {shared}; "
            "scores of trained models don't tell how they do on new ones"
        )
    equal = scalar(register, "SELECT count(*) FROM leak WHERE kind != 'same_label'")
    if equal:
        yield f"pairs of equal images: {equal}"
    if table and (equal or shared):
        yield f"all pairs are in {table}"
