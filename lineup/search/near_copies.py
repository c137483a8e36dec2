"""Test photos that look like a training photo: resized, cropped or compressed again, so that neither bytes
nor pixels agree.

Vectors find the candidates, whatever the size of the collection; pixels tell a copy from a photo of the same
kind of thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from lineup.search import exact
from lineup.storage import embeddings, parquet

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SIDE = 24  # pixels of a view: what is left of a photo at any size and quality
SAME_PICTURE = 0.95  # of `agreement`
_SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6)  # of a photo's sides that a crop may have left
_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way that a crop can be moved
_EMPTY = np.empty((0, 2), np.int64)


def nearest(test: Path, train: Path) -> tuple[Floats, Ints]:
    """Each test image's nearest training image: cosine, -inf where there is none, and its place in the order
    of the ids; both [N].

    test, train: folders of embeddings. Holds one shard of training vectors, and a batch of test vectors. Of
    equal ones the first is taken, so the result depends on the vectors alone.
    """
    count = parquet.count_rows(test)
    best, place = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
    before = 0
    for shard in parquet.shards(train):
        rows = pq.read_metadata(shard).num_rows
        if rows == 0:
            continue
        index = exact.build(
            "cosine",
            parquet.read_schema(shard).field("embedding").type.list_size,
            rows,
            _vectors(shard),
            str(train),
        )
        done = 0
        for ids, vectors in chain.from_iterable(map(_vectors, parquet.shards(test))):
            positions, scores = exact.nearest(
                index, exact.prepare("cosine", ids, vectors, str(test)), 1, _EMPTY
            )
            here = slice(done, done := done + len(ids))
            better = scores[:, 0] > best[here]
            best[here], place[here] = (
                np.where(better, scores[:, 0], best[here]),
                np.where(better, before + positions[:, 0], place[here]),
            )
        before += rows
    return best, place


def _vectors(shard: Path) -> Iterator[exact.Batch]:
    return map(embeddings.ids_and_vectors, parquet.read_shard(shard, ["image_id", "embedding"], 8_192))


def agreement(a: Image.Image, b: Image.Image) -> float:
    """How alike the pixels of two RGB pictures are, -1..1: the highest correlation of one with the other or a
    crop of it.

    Grey, at SIDE x SIDE pixels; brightness and contrast don't count; either may be mirrored. 0 for a picture
    of one colour.
    """
    crops = [_views(picture) for picture in (a, b)]
    whole = [views[:1] for views in crops]
    mirrored = [view.reshape(SIDE, SIDE)[:, ::-1].reshape(1, -1) for view in whole]
    pairs = [(crops[0], whole[1]), (crops[0], mirrored[1]), (crops[1], whole[0]), (crops[1], mirrored[0])]
    return max(float((views @ other.T).max()) for views, other in pairs)


def _views(picture: Image.Image) -> npt.NDArray[np.float64]:
    """The picture and its crops, of mean 0 and length 1: float64 [1 + crops, SIDE * SIDE], the whole first."""
    side = 4 * SIDE
    grey = picture.convert("L").resize(
        (side, side), Image.Resampling.BOX
    )  # once: the many crops are then cheap
    boxes = [(0.0, 0.0, 1.0)] + [
        ((1 - share) * x, (1 - share) * y, share) for share in _SHARES for x in _STEPS for y in _STEPS
    ]
    corners = [(x * side, y * side, (x + share) * side, (y + share) * side) for x, y, share in boxes]
    views = [grey.resize((SIDE, SIDE), Image.Resampling.BOX, box) for box in corners]
    values = np.stack([np.asarray(view, np.float64).reshape(-1) for view in views])
    values -= values.mean(axis=1, keepdims=True)
    lengths = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return np.where(lengths > 0, values / np.where(lengths > 0, lengths, 1), 0)
