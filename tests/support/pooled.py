"""A project with rankings and photos, but without models: what `lineup judge` reads."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow

from lineup import paths
from lineup.storage import parquet, rankings, schemas
from tests.support import collection
from tests.support.collection import Image

# {row: {query name: gallery names, nearest first}}
Rankings = Mapping[str, Mapping[str, Sequence[str]]]


def image_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def write(
    ranked: Rankings,
    labels: Mapping[str, str] | None = None,
    qrels: Sequence[tuple[str, str, int]] = (),
    names: Mapping[str, str] | None = None,
    pixels: bool = False,
) -> dict[str, str]:
    """Rankings and what they rank, in the working directory.

    Args:
        labels: of images, by their names.
        names: the path of an image, by its name.
        pixels: whether the images can be looked at; each has a colour of its own.
    Returns:
        {image_id: name}.
    """
    labels, named = labels or {}, names or {}
    queries = sorted({query for of_row in ranked.values() for query in of_row})
    gallery = sorted(
        {image for of_row in ranked.values() for answers in of_row.values() for image in answers}
    )
    images = [
        Image(name, split, labels.get(name), [], path=named.get(name))
        for split, of_split in (("query", queries), ("gallery", gallery))
        for name in of_split
    ]
    collection.write_params(collection.params(*ranked))
    collection.write(images, qrels)
    for row, of_row in ranked.items():
        write_ranking(row, of_row)
    if pixels:
        write_pixels(images)
    return {image.id: image.name for image in images}


def write_ranking(row: str, of_row: Mapping[str, Sequence[str]]) -> None:
    by_id = {image_id(query): [image_id(image) for image in answers] for query, answers in of_row.items()}
    query_ids = sorted(by_id)
    gallery_ids = sorted({image for answers in by_id.values() for image in answers})
    depth = max(1, *map(len, by_id.values()))
    positions = np.full((len(query_ids), depth), -1, np.int64)
    for number, query in enumerate(query_ids):
        positions[number, : len(by_id[query])] = np.searchsorted(gallery_ids, by_id[query])
    scores = np.where(positions >= 0, -np.arange(depth, dtype=np.float32), np.float32(np.nan))
    rankings.write_ranking(
        paths.ranking(row),
        rankings.Ranking(np.array(query_ids), np.array(gallery_ids), positions, scores.astype(np.float32)),
    )


def write_pixels(images: Sequence[Image]) -> None:
    distinct = sorted({(image.id, image.split) for image in images})
    rows = [(image_id, split, None, _png(image_id)) for image_id, split in distinct]
    batch = parquet.record_batch(rows, schemas.IMAGES)
    parquet.write_shards(paths.images("test"), schemas.IMAGES, [batch], len(rows), schemas.IMAGES_PER_SHARD)


def _png(image_id: str) -> bytes:
    colour = tuple(bytes.fromhex(image_id[:6]))
    buffer = io.BytesIO()
    Pillow.new("RGB", (24, 16), (colour[0], colour[1], colour[2])).save(buffer, "PNG")
    return buffer.getvalue()


def random_rankings(queries: int, gallery: int, depth: int, rows: Sequence[str], seed: int = 0) -> Rankings:
    """Each row ranks other images, of which some are the same."""
    random = np.random.default_rng(seed)
    return {
        row: {
            f"q{query}": [f"g{image}" for image in random.choice(gallery, depth, replace=False)]
            for query in range(queries)
        }
        for row in rows
    }


def lines() -> list[tuple[str, ...]]:
    """The lines of data/judgements.csv without the header."""
    text = Path(paths.JUDGEMENTS).read_text(encoding="utf-8")
    return [tuple(line.split(",")) for line in text.splitlines()[1:]]


def manifest() -> pa.Table:
    return parquet.read_table(paths.manifest("test"))
