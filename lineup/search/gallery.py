"""The gallery's vectors, read as a stream as often as they are needed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.paths import Part
from lineup.search import flat_index
from lineup.search.vectors import Batch, Metric, Positions, Vectors, prepare_vectors
from lineup.storage import embeddings, parquet

Ids = pa.ChunkedArray | npt.NDArray[np.str_] | npt.NDArray[np.bytes_]

CHUNK_VECTORS = 8_192
_SEED = 0


@dataclass(frozen=True)
class Gallery:
    """The vectors of the images searched in, which need not fit into memory.

    size: how many vectors there are; dim: numbers in each. batches: reads ids and un-normalised vectors, in
    the order of the ids, again at each call. source: what errors name, such as the folder of the embeddings.
    """

    metric: Metric
    size: int
    dim: int
    batches: Callable[[], Iterable[Batch]]
    source: str

    def prepared(self) -> Iterator[Vectors]:
        """The vectors as they are searched, float32 [n, D], in the batches in which they are read."""
        return (prepare_vectors(self.metric, ids, vectors, self.source) for ids, vectors in self.batches())

    def chunks(self) -> Iterator[Vectors]:
        """The vectors as they are searched, CHUNK_VECTORS at a time whatever the batches' sizes."""
        waiting: list[Vectors] = []
        for vectors in self.prepared():
            waiting.append(vectors)
            while sum(map(len, waiting)) >= CHUNK_VECTORS:
                joined = np.concatenate(waiting)
                yield joined[:CHUNK_VECTORS]
                waiting = [joined[CHUNK_VECTORS:]]
        if sum(map(len, waiting)):
            yield np.concatenate(waiting)

    def parts(self, bounds: Sequence[int]) -> Iterator[Gallery]:
        """The gallery in parts, each held in memory; they are read in one pass.

        Args:
            bounds: where each part begins, and where the last one ends.
        """
        batches, held, held_images = iter(self.batches()), list[Batch](), 0
        for start, end in pairwise(bounds):
            while held_images < end - start:
                held.append(next(batches))
                held_images += len(held[-1][0])
            ids, vectors = held.pop()
            own = len(ids) - (held_images - (end - start))
            part = [*held, (ids[:own], vectors[:own])]
            held, held_images = [(ids[own:], vectors[own:])], len(ids) - own
            yield replace(self, size=end - start, batches=functools.partial(iter, part))
            del part

    def vectors_at(self, positions: Positions) -> Vectors:
        """Some of the vectors as they are searched: float32 [n, D] for n rising positions."""
        parts, start = [np.empty((0, self.dim), np.float32)], 0
        for vectors in self.chunks():
            parts.append(
                vectors[positions[(positions >= start) & (positions < start + len(vectors))] - start]
            )
            start += len(vectors)
        return np.concatenate(parts)

    def sample(self, size: int) -> Positions:
        """At most `size` positions, rising, drawn without replacement; the same at each call."""
        return np.sort(np.random.default_rng(_SEED).choice(self.size, min(size, self.size), replace=False))

    def flat_index(self) -> faiss.IndexFlat:
        """An index for exact search; it holds each vector once."""
        return flat_index.build(self.metric, self.dim, self.size, self.batches(), self.source)


def open_gallery(folder: Path, metric: Metric) -> Gallery:
    """The gallery's side of a row's folder of embeddings.

    Raises:
        UserError: the folder holds no gallery image, or the vectors of another row.
    """
    size = sum(batch.num_rows for batch in _rows(folder, ["split"]))
    if size == 0:
        raise UserError(
            f"{folder}: holds no gallery image to search in; "
            "put some into data/raw/test/gallery and run `dvc repro`"
        )
    dim = parquet.read_schema(parquet.shards(folder)[0]).field("embedding").type.list_size
    return Gallery(metric, size, dim, lambda: map(embeddings.ids_and_vectors, _rows(folder)), str(folder))


def identity(folder: Path) -> dict[str, str | None]:
    """Which vectors a stage read, for its JSON: their row, their fingerprint and a digest of their ids."""
    digest = hashlib.sha256()
    for batch in _rows(folder, ["image_id", "split"]):
        digest.update("".join(f"{image_id}\n" for image_id in batch.column("image_id").to_pylist()).encode())
    return {
        "row": folder.name,
        "fingerprint": embeddings.origin(folder).fingerprint,
        "images": digest.hexdigest(),
    }


def check_same_images(folder: Path, expected: Mapping[str, Ids], part: Part = "test") -> None:
    """Checks that embeddings are of the images of a manifest.

    Args:
        folder: the embeddings.
        expected: the manifest's ids by split, in its order; other splits are not looked at.
    Raises:
        UserError: the embeddings are of other images.
    """
    checked, same = dict.fromkeys(expected, 0), True
    for batch in embeddings.read_vectors(folder, ["image_id", "split"]):
        for split, ids in expected.items() if batch.num_rows else ():
            embedded = batch.filter(pc.field("split") == split).column("image_id").to_pylist()
            same = same and embedded == _texts(ids[checked[split] : checked[split] + len(embedded)])
            checked[split] += len(embedded)
    if not same or any(checked[split] != len(ids) for split, ids in expected.items()):
        raise UserError(
            f"{folder}: holds other images than {paths.manifest(part)}; run `dvc repro` to embed them again"
        )


def _texts(ids: Ids) -> list[str]:
    return ids.astype(np.str_).tolist() if isinstance(ids, np.ndarray) else ids.to_pylist()


def _rows(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The gallery's rows of a folder of embeddings, in the order of their ids; `columns` must hold split."""
    for batch in embeddings.read_vectors(folder, columns):
        if batch.num_rows:
            yield batch.filter(pc.field("split") == "gallery")
