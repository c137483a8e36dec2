"""match@model: the test photos most like a training photo by a row's vectors, with both pictures; a person
judges them.

What has a training photo's very bytes or pixels is in leaks.csv already, and left out here.
"""

from __future__ import annotations

import logging
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

PAIRS = 200  # that are listed: more than anyone looks at
DIGITS = 4
_KNOWN = ["image_id", "split", "label", "paths", "pixels_id"]


class Pair(NamedTuple):
    """test, train: rows of schemas.MANIFEST; cosine: of their vectors."""

    test: dict[str, Any]
    train: dict[str, Any]
    cosine: float


def most_alike(
    test: pa.Table,
    train: pa.Table,
    ids: list[str],
    places: near_copies.Ints,
    scores: near_copies.Floats,
    count: int,
) -> list[Pair]:
    """The `count` most alike, most alike first, each test photo once.

    test, train: the manifests, train's in the order of its ids; ids: str [N] of the test vectors; places,
    scores: int and float32 [N], of each one's nearest training photo, -1 and -inf where there is none.
    """
    copied = test.filter(
        pc.call_function("is_in", [test.column("pixels_id")], pc.SetLookupOptions(train.column("pixels_id")))
    )
    told = set(copied.column("image_id").to_pylist())
    found: dict[str, tuple[int, float]] = {}
    for number in np.lexsort((np.arange(len(ids)), -scores)).tolist():
        if len(found) == count or places[number] < 0:
            break
        if ids[number] not in told:
            found.setdefault(ids[number], (int(places[number]), float(scores[number])))
    wanted = pc.SetLookupOptions(pa.array(list(found), pa.string()))
    known = {
        row["image_id"]: row
        for row in test.filter(pc.call_function("is_in", [test.column("image_id")], wanted)).to_pylist()
    }
    return [
        Pair(known[image_id], train.slice(place, 1).to_pylist()[0], score)
        for image_id, (place, score) in found.items()
    ]


def describe(pair: Pair) -> dict[str, Any]:
    """What is shown of a pair, and how far the pixels agree."""
    prepared = {part: prepared_images.read(paths.images(part), row["image_id"]) for part, row in _sides(pair)}
    decoded = [decoding.decode(data) for data in prepared.values() if data is not None]
    assert len(decoded) == 2, "preprocess writes manifest and images together"
    told = {
        part: {"id": row["image_id"], "label": row["label"], "paths": row["paths"]}
        for part, row in _sides(pair)
    }
    return {
        **told,
        "cosine": round(pair.cosine, DIGITS),
        "agreement": round(near_copies.agreement(*decoded), DIGITS),
    }


def _sides(pair: Pair) -> tuple[tuple[Part, dict[str, Any]], ...]:
    return ("test", pair.test), ("train", pair.train)


def write(folder: Path, model: str, told: dict[str, Any]) -> None:
    """pairs.csv for scripts, pairs.js for the report, and the training photos' thumbnails."""
    folder.mkdir()
    lines = []
    for pair in told["pairs"]:
        sides = [
            text
            for part in ("test", "train")
            for text in (" | ".join(pair[part]["paths"]), pair[part]["label"])
        ]
        lines.append([pair["cosine"], pair["agreement"], *sides])
    csv_files.write_csv(
        folder / "pairs.csv", ("cosine", "agreement", "test", "test_label", "train", "train_label"), lines
    )
    (folder / "pairs.js").write_text(
        js_data.assignment("LINEUP_NEAR_COPIES", model, told), encoding="utf-8", newline="\n"
    )
    for image_id in {pair["train"]["id"] for pair in told["pairs"]}:
        data = prepared_images.read(paths.images("train"), image_id)
        assert data is not None, "described above"
        (folder / f"{image_id}.jpg").write_bytes(thumbnails.thumbnail(data))


def read(part: Part, folder: Path) -> tuple[pa.Table, list[str]]:
    """The manifest, and the ids of the embeddings. UserError if they are of other images."""
    manifest = parquet.read_table(paths.manifest(part), columns=_KNOWN)
    splits = ("query", "gallery") if part == "test" else ("train",)
    expected = {split: manifest.filter(pc.field("split") == split).column("image_id") for split in splits}
    gallery.check_same_images(folder, expected, part)
    return manifest, manifest.column("image_id").to_pylist()


def main(argv: list[str] | None = None) -> None:
    model, _ = cli.start("near_copies", argv)
    test, ids = read("test", paths.embeddings(model))
    train, train_ids = read("train", paths.embeddings(model, "train"))
    scores, places = near_copies.nearest(paths.embeddings(model), paths.embeddings(model, "train"))
    pairs = [describe(pair) for pair in most_alike(test, train, ids, places, scores, PAIRS)]
    told = {
        "train": len(train_ids),
        "typical": round(float(np.median(scores)), DIGITS) if train_ids else None,
        "pairs": pairs,
    }
    told["same"] = near_copies.SAME_PICTURE
    files.replace_atomically(paths.near_copies(model), lambda folder: write(folder, model, told))
    if not train_ids:
        log.warning(
            "%s holds no photo; there is nothing to compare the test photos with", paths.RAW / "train"
        )
        return
    same = sum(pair["agreement"] >= near_copies.SAME_PICTURE for pair in pairs)
    log.info(
        "%s: of the %d test photos most like a training photo, %d have nearly its pixels",
        model,
        len(pairs),
        same,
    )


if __name__ == "__main__":
    cli.run(main)
