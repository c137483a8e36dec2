"""The gallery as its images are known by: what a search from outside the pipeline answers with."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.settings.params import Exclude
from lineup.storage import parquet


@dataclass(frozen=True)
class Image:
    """One of the gallery. label: None if unknown; paths: every file with its bytes, relative to data/raw."""

    image_id: str
    label: str | None
    paths: list[str]


@dataclass(frozen=True)
class Gallery:
    """The images searched in: schemas.MANIFEST's image_id, label, paths and pixels_id, one chunk each, sorted
    by id.

    exclude: what counts as the photo that is asked with, as in the pipeline's rankings.
    """

    rows: pa.Table
    exclude: Exclude

    @property
    def ids(self) -> pa.ChunkedArray:
        return self.rows.column("image_id")

    def position(self, image_id: str) -> int | None:
        """Its place in the order of the ids; None if the gallery has no such image."""
        place = bisect_left(range(len(self.ids)), image_id, key=lambda i: self.ids[i].as_py())
        return place if place < len(self.ids) and self.ids[place].as_py() == image_id else None

    def pixels_id(self, position: int) -> str:
        return self.rows.column("pixels_id")[position].as_py()

    def itself(self, image_id: str, pixels_id: str) -> list[int]:
        """The positions of what counts as the photo with these ids, which is no answer to itself."""
        column, value = ("pixels_id", pixels_id) if self.exclude == "pixels" else ("image_id", image_id)
        return np.flatnonzero(
            pc.call_function("equal", [self.rows.column(column), value]).to_numpy()
        ).tolist()

    def image(self, position: int) -> Image:
        return Image(*(self.rows.column(name)[position].as_py() for name in ("image_id", "label", "paths")))


def read(exclude: Exclude) -> Gallery:
    """UserError if nothing is prepared."""
    manifest = parquet.read_table(
        paths.manifest("test"), columns=["image_id", "split", "label", "paths", "pixels_id"]
    )
    return Gallery(manifest.filter(pc.field("split") == "gallery").combine_chunks(), exclude)
