"""The pairs that may be near copies: the test photos most like a training photo, and how far pixels agree.

A test photo with a training photo's very bytes or pixels is in leaks.csv already, and is left out here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.paths import Part
from lineup.photos import decoding, prepared_images
from lineup.search import near_copies

DECIMALS = 4


class Photo(NamedTuple):
    """A photo of the manifest; paths: of its files."""

    id: str
    label: str | None
    paths: list[str]


class Pair(NamedTuple):
    """A test photo and the training photo nearest to it, by the cosine of their vectors."""

    test: Photo
    train: Photo
    cosine: float


class ComparedPair(NamedTuple):
    """A pair, and how far its pixels agree, see `near_copies.agreement`."""

    test: Photo
    train: Photo
    cosine: float
    agreement: float


def most_alike(
    test: pa.Table,
    train: pa.Table,
    positions: near_copies.Ints,
    cosines: near_copies.Floats,
    count: int,
) -> list[Pair]:
    """The pairs with the highest cosine, highest first, each test photo once.

    Args:
        test, train: the manifests, in the order of ids. An id of the test may occur twice, as query and as
            gallery image.
        positions: int [N], row in `train` of the photo nearest to each test photo, -1 where there is none.
        cosines: float32 [N], of the two vectors, -inf where there is none.
        count: of pairs, at most.
    """
    ids: list[str] = test.column("image_id").to_pylist()
    same_pixels = pc.SetLookupOptions(train.column("pixels_id"))
    in_leaks = test.filter(pc.call_function("is_in", [test.column("pixels_id")], same_pixels))
    left_out = set(in_leaks.column("image_id").to_pylist())
    nearest: dict[str, tuple[int, float]] = {}
    for number in np.lexsort((np.arange(len(ids)), -cosines)).tolist():
        if len(nearest) == count or positions[number] < 0:
            break
        if ids[number] not in left_out:
            nearest.setdefault(ids[number], (int(positions[number]), float(cosines[number])))
    wanted = pc.SetLookupOptions(pa.array(list(nearest), pa.string()))
    photos = _photos(test.filter(pc.call_function("is_in", [test.column("image_id")], wanted)))
    test_photos = {photo.id: photo for photo in photos}
    return [
        Pair(test_photos[image_id], _photos(train.slice(position, 1))[0], cosine)
        for image_id, (position, cosine) in nearest.items()
    ]


def _photos(manifest: pa.Table) -> list[Photo]:
    return [Photo(row["image_id"], row["label"], row["paths"]) for row in manifest.to_pylist()]


def compare_pixels(pair: Pair) -> ComparedPair:
    """Decodes both photos, and rounds what is written of them."""
    test = decoding.decode(prepared("test", pair.test))
    train = decoding.decode(prepared("train", pair.train))
    agreement = near_copies.agreement(test, train)
    return ComparedPair(pair.test, pair.train, round(pair.cosine, DECIMALS), round(agreement, DECIMALS))


def prepared(part: Part, photo: Photo) -> bytes:
    """The photo's prepared image, encoded."""
    data = prepared_images.read(paths.images(part), photo.id)
    assert data is not None, "preprocess writes manifest and images together"
    return data
