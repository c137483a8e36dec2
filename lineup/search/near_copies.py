"""Test photos that are near copies of a training photo: resized, cropped or compressed again.

Neither bytes nor pixels of a near copy are equal. Vectors find the candidates, in a collection of any size;
pixels then distinguish a copy from a photo of the same kind of thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from lineup.search import faiss_search, flat_index
from lineup.search.vectors import Batch, prepare_vectors
from lineup.storage import embeddings, parquet

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Side of a view in pixels: this small, it hardly depends on the size and quality of the photo.
SIDE = 24
# The `agreement` from which two pictures count as the same.
SAME_PICTURE = 0.95
# The crops that are compared: what share of a photo's sides is left, and where the crop lies between the
# edges.
_CROP_SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6)
_CROP_OFFSETS = (0.0, 0.25, 0.5, 0.75, 1.0)
_NO_EXCLUSIONS = np.empty((0, 2), np.int64)


def nearest(test: Path, train: Path) -> tuple[Floats, Ints]:
    """Each test image's nearest training image; of equally near ones the first.

    Holds one shard of training vectors and one batch of test vectors in memory.

    Args:
        test, train: folders of embeddings.
    Returns:
        The cosine, float32 [N], and the training image's position in the order of the ids, int64 [N]; -inf
        and -1 where there is no training image.
    """
    count = parquet.count_rows(test)
    best, position = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
    before = 0
    for shard in parquet.shards(train):
        rows = pq.read_metadata(shard).num_rows
        if rows == 0:
            continue
        index = flat_index.build(
            "cosine",
            parquet.read_schema(shard).field("embedding").type.list_size,
            rows,
            _vectors(shard),
            str(train),
        )
        done = 0
        for ids, vectors in chain.from_iterable(map(_vectors, parquet.shards(test))):
            positions, scores = faiss_search.nearest(
                index, prepare_vectors("cosine", ids, vectors, str(test)), 1, _NO_EXCLUSIONS
            )
            here = slice(done, done := done + len(ids))
            better = scores[:, 0] > best[here]
            best[here] = np.where(better, scores[:, 0], best[here])
            position[here] = np.where(better, before + positions[:, 0], position[here])
        before += rows
    return best, position


def _vectors(shard: Path) -> Iterator[Batch]:
    return map(embeddings.ids_and_vectors, parquet.read_shard(shard, ["image_id", "embedding"], 8_192))


def agreement(a: Image.Image, b: Image.Image) -> float:
    """How alike two RGB pictures are, -1..1: the highest correlation of one with the other or a crop of it.

    Compared in grey at SIDE x SIDE pixels, also mirrored; brightness and contrast do not count. A picture of
    one colour gives 0.
    """
    crops = [_views(picture) for picture in (a, b)]
    whole = [views[:1] for views in crops]
    mirrored = [view.reshape(SIDE, SIDE)[:, ::-1].reshape(1, -1) for view in whole]
    pairs = [(crops[0], whole[1]), (crops[0], mirrored[1]), (crops[1], whole[0]), (crops[1], mirrored[0])]
    return max(float((views @ other.T).max()) for views, other in pairs)


def _views(picture: Image.Image) -> npt.NDArray[np.float64]:
    """The whole picture and its crops, each with mean 0 and length 1: float64 [1 + crops, SIDE * SIDE]."""
    side = 4 * SIDE
    # Reduced once, so that the many crops are cheap.
    grey = picture.convert("L").resize((side, side), Image.Resampling.BOX)
    boxes = [(0.0, 0.0, 1.0)] + [
        ((1 - share) * x, (1 - share) * y, share)
        for share in _CROP_SHARES
        for x in _CROP_OFFSETS
        for y in _CROP_OFFSETS
    ]
    corners = [(x * side, y * side, (x + share) * side, (y + share) * side) for x, y, share in boxes]
    views = [grey.resize((SIDE, SIDE), Image.Resampling.BOX, box) for box in corners]
    values = np.stack([np.asarray(view, np.float64).reshape(-1) for view in views])
    values -= values.mean(axis=1, keepdims=True)
    lengths = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return np.where(lengths > 0, values / np.where(lengths > 0, lengths, 1), 0)
