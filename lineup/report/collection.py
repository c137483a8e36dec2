"""The test images as the report's scripts know them: by their number in the sorted list of a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Side:
    """The images of a split, sorted by id.

    Attributes:
        ids: str [N].
        paths: the image's files, joined by " | ", [N].
        label: int [N], index into the collection's labels, -1 if unknown.
    """

    ids: npt.NDArray[np.str_]
    paths: list[str]
    label: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Collection:
    """The queries, the gallery and their labels, as the report shows them."""

    labels: list[str]
    queries: Side
    gallery: Side

    @cached_property
    def key(self) -> str:
        """A digest of the images' ids: the page uses it to notice a row's file of other images."""
        ids = "\n".join([*self.queries.ids.tolist(), "", *self.gallery.ids.tolist()])
        return hashlib.sha256(ids.encode()).hexdigest()[:16]

    @cached_property
    def data_digest(self) -> str:
        """A digest of the images and their labels: what the figures are of."""
        sides = (("query", self.queries), ("gallery", self.gallery))
        lines = [
            [split, image_id, self.labels[label] if label >= 0 else None]
            for split, side in sides
            for image_id, label in zip(side.ids.tolist(), side.label.tolist(), strict=True)
        ]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:12]

    @property
    def label_numbers(self) -> dict[str, int]:
        """{label: its index in `labels`}."""
        return {label: number for number, label in enumerate(self.labels)}

    def to_json(self) -> dict[str, Any]:
        """What the page's scripts read as LINEUP.collection."""
        sides = {
            name: {"ids": side.ids.tolist(), "paths": side.paths, "label": side.label.tolist()}
            for name, side in (("queries", self.queries), ("gallery", self.gallery))
        }
        return {"key": self.key, "labels": self.labels, **sides}


def read(manifest: pa.Table) -> Collection:
    """The images of a manifest, schemas.MANIFEST with at least image_id, split, label and paths."""
    labels = sorted({label for label in manifest.column("label").to_pylist() if label is not None})
    label_numbers = {label: number for number, label in enumerate(labels)}
    queries, gallery = (
        _side(manifest.filter(pc.field("split") == split), label_numbers) for split in ("query", "gallery")
    )
    return Collection(labels, queries, gallery)


def _side(rows: pa.Table, label_numbers: Mapping[str, int]) -> Side:
    label = [label_numbers.get(name, -1) for name in rows.column("label").to_pylist()]
    paths = [" | ".join(image_paths) for image_paths in rows.column("paths").to_pylist()]
    return Side(np.array(rows.column("image_id").to_pylist(), np.str_), paths, np.array(label, np.int64))
