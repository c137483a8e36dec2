"""A row's map as the report's scripts read it: where each photo is, and the groups that queries are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.errors import UserError
from lineup.report.collection import Collection
from lineup.slices import slice_groups

# The longer side of a map; coordinates are whole numbers, so that a region is short in the page's address.
SIDE = 2000

Positions = npt.NDArray[np.int64]


def map_data(photos: pa.Table, collection: Collection, attributes: pa.Table, source: str) -> dict[str, Any]:
    """What the page's scripts read as LINEUP_MAPS[row].

    Args:
        photos: schemas.MAP.
        collection: the test images.
        attributes: data/prepared/test/attributes.parquet.
        source: the file of `photos`, for messages.
    Returns:
        `side`; of `queries` and `gallery` each the numbers of their images on the map (`at`), and their `x`
        and `y` of 0..`side`, from left to right and from top to bottom; of each attribute by which queries
        differ its `name`, its `groups`, and the number of each query's group (`of`).
    Raises:
        UserError: the map is of other images than the collection.
    """
    positions = scaled(np.column_stack([photos.column(axis).to_numpy() for axis in ("x", "y")]))
    splits = np.array(photos.column("split").to_pylist(), np.str_)
    ids = np.array(photos.column("image_id").to_pylist(), np.str_)
    sides: dict[str, Any] = {}
    for name, side, split in (
        ("queries", collection.queries, "query"),
        ("gallery", collection.gallery, "gallery"),
    ):
        own = splits == split
        number = {image_id: i for i, image_id in enumerate(side.ids.tolist())}
        if not number.keys() >= set(ids[own].tolist()):
            raise UserError(f"{source}: is of other photos than data/prepared/test; run `dvc repro`")
        x, y = positions[own].T.tolist() if own.any() else ([], [])
        sides[name] = {"at": [number[image_id] for image_id in ids[own].tolist()], "x": x, "y": y}
    return {
        "collection": collection.key,
        "side": SIDE,
        **sides,
        "attributes": _groups(attributes, collection.queries.ids.tolist(), sides["queries"]["at"]),
    }


def scaled(points: npt.NDArray[np.float32]) -> Positions:
    """Points [N, 2] as whole numbers from 0 to SIDE, without a change of shape; y is from top to bottom."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    return np.rint((points - low) * (SIDE / span)).astype(np.int64)


def _groups(attributes: pa.Table, queries: list[str], at: list[int]) -> list[Mapping[str, Any]]:
    """The groups of all queries by each attribute, as `slices` has them; of those on the map, their group."""
    known = attributes.filter(pc.field("split") == "query")
    if not queries or not known.num_rows:
        return []
    return [
        {"name": grouping.attribute, "groups": [*grouping.groups], "of": grouping.codes[at].tolist()}
        for grouping in slice_groups.of_queries(known, queries)
        if len(grouping.groups) > 1
    ]
