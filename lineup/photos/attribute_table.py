"""The attributes of each test image: of its pixels, its file, its label, and those of attributes.csv."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from lineup.photos import image_cache, photo_register, raw_attributes
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.photo_register import Image
from lineup.photos.raw_attributes import Column
from lineup.storage import schemas

_RATIO_DECIMALS = 3


def schema(columns: Sequence[Column]) -> pa.Schema:
    """schemas.ATTRIBUTES, and the user's columns."""
    own = [(column.name, pa.float64() if column.is_number else pa.string()) for column in columns]
    return pa.schema([*schemas.ATTRIBUTES, *(pa.field(*field) for field in own)])


def rows(
    register: sqlite3.Connection, cache: AttributeCache, root: Path, columns: Sequence[Column]
) -> Iterator[Sequence[object]]:
    """The rows of `schema`, one for each of the test's manifest, in its order.

    Raises:
        UserError: none of an image's files holds it any more.
    """
    gallery_photos = Counter(
        image.label for image in photo_register.images(register, "test") if image.split == "gallery"
    )
    for image in photo_register.images(register, "test"):
        replaced, raw = image.prepared_id is not None, [root / path for path in image.paths]
        with image_cache.unchanged(root, image.paths[0]):
            pixels = cache.attributes(image.image_id, replaced, raw)
        yield (
            image.image_id,
            image.split,
            max(image.width, image.height),
            round(image.width / image.height, _RATIO_DECIMALS),
            image.format,
            pixels.camera,
            pixels.sharpness,
            pixels.brightness,
            pixels.contrast,
            pixels.colourfulness,
            None if image.label is None else gallery_photos[image.label],
            *_own(register, image, columns),
        )


def training_values(register: sqlite3.Connection, columns: Sequence[Column]) -> dict[str, list[str]]:
    """Of each text column that is known of some training photo, the values that queries and they have.

    Returns:
        {column: values}, both sorted.
    """
    texts = [column for column in columns if not column.is_number]
    if not texts:
        return {}
    of_queries: list[set[object]] = [set() for _ in texts]
    for image in photo_register.images(register, "test"):
        if image.split == "query":
            for values, value in zip(of_queries, _own(register, image, columns, texts), strict=True):
                values.add(value)
    shared: dict[str, set[str]] = {}
    for image in photo_register.images(register, "train"):
        own = _own(register, image, columns, texts)
        for column, values, value in zip(texts, of_queries, own, strict=True):
            if value is not None:
                shared.setdefault(column.name, set()).update({str(value)} & values)
    return {name: sorted(values) for name, values in sorted(shared.items())}


def metadata(register: sqlite3.Connection, columns: Sequence[Column]) -> dict[str, str] | None:
    """The metadata of the table; None where the training photos have no text attribute."""
    values = training_values(register, columns)
    return {schemas.TRAINING_VALUES: json.dumps(values, ensure_ascii=False)} if values else None


def _own(
    register: sqlite3.Connection,
    image: Image,
    columns: Sequence[Column],
    wanted: Sequence[Column] | None = None,
) -> Iterator[object]:
    """The user's attributes of an image; None where they are unknown.

    What a line says of the photo counts before what one says of its label. Where lines contradict each other
    about files of one image, nothing is known.

    Args:
        columns: of attributes.csv; wanted: of these, the ones to return; None for all.
    """
    if not columns:
        return
    query = "SELECT cells FROM attribute WHERE about = ? AND name = ?"
    of_photos = [
        json.loads(cells) for path in image.paths for (cells,) in register.execute(query, ("path", path))
    ]
    of_label = [json.loads(cells) for (cells,) in register.execute(query, ("label", image.label))]
    for position, column in enumerate(columns):
        if wanted is not None and column not in wanted:
            continue
        values = {line[position] for line in of_photos} - {""} or {line[position] for line in of_label} - {""}
        value = values.pop() if len(values) == 1 else None
        yield raw_attributes.number(value) if value is not None and column.is_number else value
