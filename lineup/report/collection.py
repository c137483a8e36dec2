"""The test images as the report's scripts know them: by their number in the sorted list of a split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Side:
    """The images of a split, sorted by id. label: place in the collection's labels [N], -1 if unknown."""

    ids: npt.NDArray[np.str_]
    paths: list[str]
    label: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Collection:
    labels: list[str]
    queries: Side
    gallery: Side

    @cached_property
    def key(self) -> str:
        """Changes with the images: a row's file that was made for others is told apart."""
        told = "\n".join([*self.queries.ids.tolist(), "", *self.gallery.ids.tolist()])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def data(self) -> dict[str, Any]:
        sides = {"queries": self.queries, "gallery": self.gallery}
        told = {
            name: {"ids": side.ids.tolist(), "paths": side.paths, "label": side.label.tolist()}
            for name, side in sides.items()
        }
        return {"key": self.key, "labels": self.labels, **told}


def read(manifest: pa.Table) -> Collection:
    """manifest: schemas.MANIFEST (at least image_id, split, label, paths), of the test images."""
    labels = sorted({label for label in manifest.column("label").to_pylist() if label is not None})
    place = {label: number for number, label in enumerate(labels)}
    sides = [_side(manifest.filter(pc.field("split") == split), place) for split in ("query", "gallery")]
    return Collection(labels, *sides)


def _side(rows: pa.Table, place: dict[str, int]) -> Side:
    label = [place.get(name, -1) for name in rows.column("label").to_pylist()]
    names = [" | ".join(paths) for paths in rows.column("paths").to_pylist()]
    return Side(np.array(rows.column("image_id").to_pylist(), np.str_), names, np.array(label, np.int64))
