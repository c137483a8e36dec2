"""near_copies@row: the test photos that look most like a training photo, for a person to judge.

A test photo with a training photo's very bytes or pixels is in leaks.csv already, and is left out here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, paths
from lineup.paths import Part
from lineup.photos import decoding, prepared_images, thumbnails
from lineup.report import js_data
from lineup.search import gallery, near_copies
from lineup.storage import csv_files, files, parquet

log = logging.getLogger(__name__)

PAIRS_LISTED = 200
DECIMALS = 4
_MANIFEST_COLUMNS = ["image_id", "split", "label", "paths", "pixels_id"]
_ROWS_READ_AT_ONCE = 65_536


class Photo(NamedTuple):
    """A photo of the manifest; paths: of its files."""

    id: str
    label: str | None
    paths: list[str]


class Pair(NamedTuple):
    """A test photo and the training photo nearest to it, by the cosine of their vectors."""

    test: Photo
    train: Photo
    cosine: float


class ComparedPair(NamedTuple):
    """A pair, and how far its pixels agree, see `near_copies.agreement`."""

    test: Photo
    train: Photo
    cosine: float
    agreement: float

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return self._asdict() | {"test": self.test._asdict(), "train": self.train._asdict()}


def most_alike(
    test: pa.Table,
    train: pa.Table,
    ids: list[str],
    positions: near_copies.Ints,
    cosines: near_copies.Floats,
    count: int,
) -> list[Pair]:
    """The pairs with the highest cosine, highest first, each test photo once.

    Args:
        test, train: the manifests, in the order of ids.
        ids: str [N], of the test vectors. An id may occur twice, as query and as gallery image.
        positions: int [N], row in `train` of the photo nearest to each, -1 where there is none.
        cosines: float32 [N], of the two vectors, -inf where there is none.
        count: of pairs, at most.
    """
    same_pixels = pc.SetLookupOptions(train.column("pixels_id"))
    in_leaks = test.filter(pc.call_function("is_in", [test.column("pixels_id")], same_pixels))
    left_out = set(in_leaks.column("image_id").to_pylist())
    nearest: dict[str, tuple[int, float]] = {}
    for number in np.lexsort((np.arange(len(ids)), -cosines)).tolist():
        if len(nearest) == count or positions[number] < 0:
            break
        if ids[number] not in left_out:
            nearest.setdefault(ids[number], (int(positions[number]), float(cosines[number])))
    wanted = pc.SetLookupOptions(pa.array(list(nearest), pa.string()))
    photos = _photos(test.filter(pc.call_function("is_in", [test.column("image_id")], wanted)))
    test_photos = {photo.id: photo for photo in photos}
    return [
        Pair(test_photos[image_id], _photos(train.slice(position, 1))[0], cosine)
        for image_id, (position, cosine) in nearest.items()
    ]


def _photos(manifest: pa.Table) -> list[Photo]:
    return [Photo(row["image_id"], row["label"], row["paths"]) for row in manifest.to_pylist()]


def compare_pixels(pair: Pair) -> ComparedPair:
    """Decodes both photos, and rounds what is written of them."""
    test = decoding.decode(_prepared("test", pair.test))
    train = decoding.decode(_prepared("train", pair.train))
    agreement = near_copies.agreement(test, train)
    return ComparedPair(pair.test, pair.train, round(pair.cosine, DECIMALS), round(agreement, DECIMALS))


def _prepared(part: Part, photo: Photo) -> bytes:
    data = prepared_images.read(paths.images(part), photo.id)
    assert data is not None, "preprocess writes manifest and images together"
    return data


def write(folder: Path, row: str, pairs: Sequence[ComparedPair], content: dict[str, Any]) -> None:
    """Writes a new folder: pairs.csv for scripts, pairs.js for the report, thumbnails of training photos.

    Args:
        content: what the page's scripts read as LINEUP_NEAR_COPIES[row].
    """
    folder.mkdir()
    lines = [
        [
            pair.cosine,
            pair.agreement,
            " | ".join(pair.test.paths),
            pair.test.label,
            " | ".join(pair.train.paths),
            pair.train.label,
        ]
        for pair in pairs
    ]
    csv_files.write_csv(
        folder / "pairs.csv", ("cosine", "agreement", "test", "test_label", "train", "train_label"), lines
    )
    script = js_data.assignment("LINEUP_NEAR_COPIES", row, content)
    (folder / "pairs.js").write_text(script, encoding="utf-8", newline="\n")
    for photo in {pair.train.id: pair.train for pair in pairs}.values():
        (folder / f"{photo.id}.jpg").write_bytes(thumbnails.thumbnail(_prepared("train", photo)))


def read(part: Part, folder: Path) -> tuple[pa.Table, list[str]]:
    """The manifest, and the ids of the embeddings. UserError if they are of other images."""
    manifest = parquet.read_table(paths.manifest(part), columns=_MANIFEST_COLUMNS)
    splits = ("query", "gallery") if part == "test" else ("train",)
    expected = {split: manifest.filter(pc.field("split") == split).column("image_id") for split in splits}
    gallery.check_same_images(folder, expected, part)
    return manifest, manifest.column("image_id").to_pylist()


def main(argv: list[str] | None = None) -> None:
    row, _ = cli.start("near_copies", argv)
    test, ids = read("test", paths.embeddings(row))
    train, train_ids = read("train", paths.embeddings(row, "train"))
    cosines, positions = near_copies.nearest(paths.embeddings(row), paths.embeddings(row, "train"))
    alike = most_alike(test, train, ids, positions, cosines, PAIRS_LISTED)
    pairs = [compare_pixels(pair) for pair in alike]
    content = {
        "train": len(train_ids),
        "typical": round(float(np.median(cosines)), DECIMALS) if train_ids else None,
        "pairs": [pair.to_json() for pair in pairs],
        "same": near_copies.SAME_PICTURE,
    }
    files.replace_atomically(paths.near_copies(row), lambda folder: write(folder, row, pairs, content))
    if not train_ids:
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
