"""The photos on which a network is calibrated for int8: training photos, or else gallery photos."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.paths import Part
from lineup.photos import prepared_images
from lineup.storage import parquet

MOST_PHOTOS = 300
_ROWS_PER_BATCH = 65_536


@dataclass(frozen=True)
class CalibrationPhotos:
    """Ids of prepared images of one part, in the order in which they calibrate.

    sha256: of the bytes of all of them, in hex.
    """

    part: Part
    ids: tuple[str, ...]
    sha256: str

    def read(self) -> Iterator[tuple[str, bytes]]:
        """Each photo's id and its prepared image, encoded."""
        for image_id in self.ids:
            image = prepared_images.read(paths.images(self.part), image_id)
            assert image is not None, "the ids were read from the same folder"
            yield image_id, image


def choose(seed: int) -> CalibrationPhotos:
    """Up to MOST_PHOTOS photos, those with the smallest hashes of seed and id.

    The choice depends on nothing but the seed and the photos that there are, and a further photo changes it
    only where its own hash is among the smallest.

    Raises:
        UserError: there is neither a training photo nor a gallery photo.
    """
    part: Part
    for part in ("train", "test"):
        prepared_ids = _prepared_ids(part)
        ids = heapq.nsmallest(MOST_PHOTOS, prepared_ids, key=lambda image_id: _hash(seed, image_id))
        if ids:
            digest = hashlib.sha256("".join(prepared_ids[image_id] for image_id in ids).encode())
            return CalibrationPhotos(part, tuple(ids), digest.hexdigest())
    raise UserError(f"{paths.RAW}: has no photo to calibrate int8 on; put photos into data/raw/test/gallery")


def _prepared_ids(part: Part) -> dict[str, str]:
    """The hash of each prepared image's bytes by its image_id; of the test photos, the gallery's only."""
    by_image: dict[str, str] = {}
    columns = ["image_id", "split", "prepared_id"]
    for rows in parquet.read_shards(paths.images(part), columns, _ROWS_PER_BATCH):
        if part == "test":
            rows = rows.filter(pc.field("split") == "gallery")
        ids, prepared_ids = (rows.column(name).to_pylist() for name in ("image_id", "prepared_id"))
        # A photo that was stored unchanged is its own prepared image.
        by_image.update(
            {image_id: prepared or image_id for image_id, prepared in zip(ids, prepared_ids, strict=True)}
        )
    return by_image


def _hash(seed: int, image_id: str) -> bytes:
    return hashlib.sha256(f"{seed} {image_id}".encode()).digest()
