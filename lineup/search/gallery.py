"""The gallery's side of a folder of embeddings, read as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation.relevance import Relevance
from lineup.search import approximate, exact
from lineup.storage import embeddings, parquet


def rows(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The gallery's rows in the order of their ids; `columns` must hold split."""
    for batch in embeddings.read_vectors(folder, columns):
        if batch.num_rows:
            yield batch.filter(pc.field("split") == "gallery")


def batches(folder: Path) -> Iterator[exact.Batch]:
    return map(embeddings.ids_and_vectors, rows(folder))


def prepared(folder: Path, metric: exact.Metric) -> Iterator[exact.Vectors]:
    """As they're searched."""
    return (exact.prepare(metric, ids, vectors, str(folder)) for ids, vectors in batches(folder))


def dim(folder: Path) -> int:
    return parquet.read_schema(parquet.shards(folder)[0]).field("embedding").type.list_size


def count(folder: Path) -> int:
    """UserError if there is no image to search in."""
    images = sum(batch.num_rows for batch in rows(folder, ["split"]))
    if images == 0:
        raise UserError(
            f"{folder}: holds no gallery image to search in; put some into data/raw/test/gallery and run `dvc repro`"
        )
    return images


def index(folder: Path, metric: exact.Metric) -> faiss.IndexFlat:
    """Flat index of the gallery of an embeddings folder.

    Reads it as a stream. UserError if the gallery is empty.
    """
    return exact.build(metric, dim(folder), count(folder), batches(folder), str(folder))


def to_index(folder: Path, metric: exact.Metric) -> approximate.Gallery:
    """For an index that reads the gallery more than once. UserError if the gallery is empty."""
    return approximate.Gallery(metric, count(folder), dim(folder), lambda: batches(folder), str(folder))


def digest(ids: Iterable[pa.Array | pa.ChunkedArray]) -> str:
    """SHA-256 of a gallery's ids, in order, in hex: which images an index was built of."""
    told = hashlib.sha256()
    for some in ids:
        told.update("".join(f"{image_id}\n" for image_id in some.to_pylist()).encode())
    return told.hexdigest()


def read_from(folder: Path) -> dict[str, str | None]:
    """For a stage's costs: the fingerprint of the vectors that it read, and which images they are of."""
    images = digest(batch.column("image_id") for batch in rows(folder, ["image_id", "split"]))
    return {"row": folder.name, "fingerprint": embeddings.origin(folder).fingerprint, "images": images}


def check_ids(folder: Path, ids: pa.ChunkedArray) -> None:
    """UserError unless the embeddings are of the gallery's images, which have these ids."""
    embedded = [batch.column("image_id") for batch in rows(folder, ["image_id", "split"])]
    if not pa.chunked_array(embedded, pa.string()).equals(ids):
        raise UserError(
            f"{folder}: holds other images than {paths.manifest('test')}; run `dvc repro` to embed them again"
        )


def check_same_images(folder: Path, answers: Relevance, queries: npt.NDArray[np.str_]) -> None:
    """UserError unless the embeddings, with these ids of queries, are of the manifest's images."""
    same, start = np.array_equal(queries, answers.query_ids), 0
    for batch in rows(folder, ["image_id", "split"]):
        ids = np.array(batch.column("image_id").to_pylist(), np.bytes_)
        same = same and np.array_equal(ids, answers.gallery_ids[start : start + len(ids)])
        start += len(ids)
    if not same or start != len(answers.gallery_ids):
        raise UserError(
            f"{folder}: holds other images than {paths.manifest('test')}; run `dvc repro` to embed them again"
        )
