"""The gallery's photos by what people know them by: label and paths."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.settings.sections import Exclude
from lineup.storage import parquet


@dataclass(frozen=True)
class GalleryPhoto:
    """label: None if it is unknown; paths: of every file with its bytes, relative to data/raw."""

    image_id: str
    label: str | None
    paths: list[str]


@dataclass(frozen=True)
class GalleryPhotos:
    """The images searched in.

    table: schemas.MANIFEST's image_id, label, paths and pixels_id, one chunk each, sorted by id.
    exclude: what counts as the query itself, as in the pipeline's rankings.
    """

    table: pa.Table
    exclude: Exclude

    @property
    def ids(self) -> pa.ChunkedArray:
        """The ids of the gallery's images, in order."""
        return self.table.column("image_id")

    def position(self, image_id: str) -> int | None:
        """The image's position in the order of the ids; None if the gallery has no such image."""
        position = bisect_left(range(len(self.ids)), image_id, key=lambda i: self.ids[i].as_py())
        known = position < len(self.ids) and self.ids[position].as_py() == image_id
        return position if known else None

    def pixels_id(self, position: int) -> str:
        """The hash of an image's decoded pixels."""
        return self.table.column("pixels_id")[position].as_py()

    def self_matches(self, image_id: str, pixels_id: str) -> list[int]:
        """The positions of the images that count as the query itself, if the query has these ids."""
        column, value = ("pixels_id", pixels_id) if self.exclude == "pixels" else ("image_id", image_id)
        equal = pc.call_function("equal", [self.table.column(column), value])
        return np.flatnonzero(equal.to_numpy()).tolist()

    def photo(self, position: int) -> GalleryPhoto:
        """The image at a position."""
        columns = (self.table.column(name) for name in ("image_id", "label", "paths"))
        return GalleryPhoto(*(column[position].as_py() for column in columns))


def read(exclude: Exclude) -> GalleryPhotos:
    """The gallery of the test manifest. UserError if nothing is prepared."""
    columns = ["image_id", "split", "label", "paths", "pixels_id"]
    manifest = parquet.read_table(paths.manifest("test"), columns=columns)
    return GalleryPhotos(manifest.filter(pc.field("split") == "gallery").combine_chunks(), exclude)
