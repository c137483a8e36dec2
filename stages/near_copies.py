"""near_copies@row: the test photos that look most like a training photo, for a person to judge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, paths
from lineup.paths import Part
from lineup.photos import thumbnails
from lineup.report import js_data, near_copies_data
from lineup.search import gallery, near_copies, near_copy_pairs
from lineup.search.near_copy_pairs import ComparedPair
from lineup.storage import csv_files, files, parquet

log = logging.getLogger(__name__)

PAIRS_LISTED = 200
_MANIFEST_COLUMNS = ["image_id", "split", "label", "paths", "pixels_id"]


def read(part: Part, folder: Path) -> pa.Table:
    """The manifest of a part. UserError if the embeddings in `folder` are of other images."""
    manifest = parquet.read_table(paths.manifest(part), columns=_MANIFEST_COLUMNS)
    splits = ("query", "gallery") if part == "test" else ("train",)
    expected = {split: manifest.filter(pc.field("split") == split).column("image_id") for split in splits}
    gallery.check_same_images(folder, expected, part)
    return manifest


def write(folder: Path, row: str, pairs: Sequence[ComparedPair], content: dict[str, Any]) -> None:
    """Writes a new folder: pairs.csv for scripts, pairs.js for the report, thumbnails of training photos.

    Args:
        content: what the page's scripts read as LINEUP_NEAR_COPIES[row].
    """
    folder.mkdir()
    csv_files.write_csv(folder / "pairs.csv", near_copies_data.COLUMNS, near_copies_data.table(pairs))
    script = js_data.assignment("LINEUP_NEAR_COPIES", row, content)
    (folder / "pairs.js").write_text(script, encoding="utf-8", newline="\n")
    for photo in {pair.train.id: pair.train for pair in pairs}.values():
        image = near_copy_pairs.prepared("train", photo)
        (folder / f"{photo.id}.jpg").write_bytes(thumbnails.thumbnail(image))


def main(argv: list[str] | None = None) -> None:
    row, _ = cli.start("near_copies", argv)
    test = read("test", paths.embeddings(row))
    train = read("train", paths.embeddings(row, "train"))
    cosines, positions = near_copies.nearest(paths.embeddings(row), paths.embeddings(row, "train"))
    alike = near_copy_pairs.most_alike(test, train, positions, cosines, PAIRS_LISTED)
    pairs = [near_copy_pairs.compare_pixels(pair) for pair in alike]
    content = near_copies_data.near_copies_data(pairs, cosines, train.num_rows)
    files.replace_atomically(paths.near_copies(row), lambda folder: write(folder, row, pairs, content))
    if not train.num_rows:
        log.warning(
            "%s holds no photo; there is nothing to compare the test photos with", paths.RAW / "train"
        )
        return
    same = sum(pair.agreement >= near_copies.SAME_PICTURE for pair in pairs)
    log.info(
        "%s: of the %d test photos most like a training photo, %d have nearly its pixels",
        row,
        len(pairs),
        same,
    )


if __name__ == "__main__":
    cli.run(main)
