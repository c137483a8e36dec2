"""Brings a collection of a database up to date with the gallery, in batches: a second run adds nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from lineup.export.database import MOST_PATHS, Collection, Photo
from lineup.search.gallery import Gallery
from lineup.search.vectors import Vectors, prepare_vectors

_VALUES_PER_BATCH = 2**22  # numbers of all vectors together, 16 MB
_IDS_PER_REMOVAL = 1_000


@dataclass(frozen=True)
class Difference:
    """What tells a collection from the gallery.

    missing: photos that it lacks, or holds with another label or other paths; surplus: photos to be removed,
    since they left the gallery, or are about to be stored again; present: photos that are stored as they are.
    """

    missing: frozenset[str]
    surplus: tuple[str, ...]
    present: int

    @property
    def left(self) -> int:
        """How many photos are stored that left the gallery."""
        return len(self.surplus) - len(self.missing.intersection(self.surplus))


def gallery_photos(manifest: pa.Table) -> dict[str, Photo]:
    """The photos of the gallery by id, in the order of their ids.

    Args:
        manifest: schemas.MANIFEST, at least image_id, split, label and paths.
    """
    rows = manifest.filter(pc.field("split") == "gallery").select(["image_id", "label", "paths"])
    return {
        line["image_id"]: Photo(line["image_id"], line["label"], tuple(line["paths"][:MOST_PATHS]))
        for batch in rows.to_batches()
        for line in batch.to_pylist()
    }


def difference(collection: Collection, photos: Mapping[str, Photo]) -> Difference:
    """Compares what is stored with the gallery's photos, by id."""
    present, surplus = set[str](), list[str]()
    for stored in collection.photos():
        if photos.get(stored.image_id) == stored:
            present.add(stored.image_id)
        else:
            surplus.append(stored.image_id)
    return Difference(frozenset(photos.keys() - present), tuple(surplus), len(present))


def synchronise(
    collection: Collection, gallery: Gallery, photos: Mapping[str, Photo], differs: Difference
) -> None:
    """Removes what left the gallery, then adds what is missing.

    differs: what `difference` returned.
    """
    for start in range(0, len(differs.surplus), _IDS_PER_REMOVAL):
        collection.remove(differs.surplus[start : start + _IDS_PER_REMOVAL])
    with tqdm(total=len(differs.missing), desc="load", unit="photo", disable=None) as bar:
        for ids, vectors in _missing(gallery, differs.missing):
            collection.add([photos[image_id] for image_id in ids], vectors)
            bar.update(len(ids))


def _missing(gallery: Gallery, missing: frozenset[str]) -> Iterator[tuple[Sequence[str], Vectors]]:
    """The ids and vectors of some images, as they are compared, in batches for the database."""
    size = max(1, _VALUES_PER_BATCH // gallery.dim)
    for ids, vectors in gallery.batches() if missing else ():
        wanted = [position for position, image_id in enumerate(ids) if image_id in missing]
        for start in range(0, len(wanted), size):
            some = np.array(wanted[start : start + size])
            names = [ids[position] for position in some]
            yield names, prepare_vectors(gallery.metric, names, vectors[some], gallery.source)
