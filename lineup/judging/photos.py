"""The pool's photos by what people know them by: label and path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.judging.pool import Pool


@dataclass(frozen=True)
class Photo:
    """label: None if it is unknown; path: of one of its files, relative to data/raw."""

    image_id: str
    label: str | None
    path: str


@dataclass(frozen=True)
class Photos:
    """{image_id: photo} of the queries and of the gallery images in the pool. An image may be both."""

    queries: dict[str, Photo]
    gallery: dict[str, Photo]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.queries or image_id in self.gallery

    @property
    def labelled_queries(self) -> int:
        """How many queries have a label."""
        return sum(photo.label is not None for photo in self.queries.values())


def of_pool(pool: Pool, manifest: pa.Table) -> Photos:
    """The photos of a pool.

    Args:
        manifest: schemas.MANIFEST, at least image_id, split, label and paths.
    Raises:
        UserError: a ranked image is not in it.
    """
    return Photos(_photos(manifest, "query", pool.query_ids), _photos(manifest, "gallery", pool.gallery_ids))


def _photos(manifest: pa.Table, split: str, ids: npt.NDArray[np.str_]) -> dict[str, Photo]:
    wanted = (pc.field("split") == split) & pc.field("image_id").isin(pa.array(ids, pa.string()))
    rows = manifest.filter(wanted).select(["image_id", "label", "paths"]).to_pylist()
    photos = {row["image_id"]: Photo(row["image_id"], row["label"], row["paths"][0]) for row in rows}
    if len(photos) != len(ids):
        raise UserError(
            f"{paths.manifest('test')}: lacks images that are ranked; run `dvc repro` to search again"
        )
    return photos
