"""The vectors of a row: a folder of Parquet files, whose metadata name the row and what computed them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.errors import UserError
from lineup.storage.parquet import read_schema, read_shards, shards
from lineup.storage.schemas import embeddings_schema


@dataclass(frozen=True)
class Embeddings:
    """The vectors of N images.

    Attributes:
        ids: str [N], sorted.
        vectors: float32 [N, D], un-normalised.
    """

    ids: npt.NDArray[np.str_]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Origin:
    """Where the vectors of a folder come from, as its files' metadata say.

    Attributes:
        row: the row that they belong to.
        fingerprint: of the vectors; for a whitening, of those that it projects. None if the files do not say.
        weights_sha256: of the encoder's weights; None if the files do not say.
    """

    row: str
    fingerprint: str | None
    weights_sha256: str | None

    def metadata(self) -> dict[str, str]:
        """The metadata of a Parquet file; what is unknown is left out."""
        metadata = {"model": self.row, "fingerprint": self.fingerprint, "weights_sha256": self.weights_sha256}
        return {name: value for name, value in metadata.items() if value is not None}


def origin(folder: Path) -> Origin:
    """The origin of a row's folder of embeddings.

    A shared DVC cache may hand out another row's files, so the files themselves must name the row.

    Raises:
        UserError: the folder does not exist, or its files name another row.
    """
    declared = Origin("", None, None)
    for file in shards(folder):
        metadata = {
            name.decode(): value.decode(errors="replace")
            for name, value in (read_schema(file).metadata or {}).items()
        }
        declared = Origin(
            metadata.get("model", ""), metadata.get("fingerprint"), metadata.get("weights_sha256")
        )
        if declared.row != folder.name:
            stage = folder.parent.name.replace("embeddings", "embed")
            raise UserError(
                f"{file}: says that it holds vectors of row {declared.row!r}, not of {folder.name!r}; "
                f"run `dvc repro -f -s {stage}@{folder.name}` (refine@ for a refinement), then `dvc repro`"
            )
    return declared


def read_vectors(
    folder: Path, columns: list[str] | None = None, batch_rows: int = 8_192
) -> Iterator[pa.RecordBatch]:
    """A row's embeddings in the order of their ids, as `read_shards`. Raises UserError if another row's."""
    origin(folder)
    yield from read_shards(folder, columns, batch_rows)


def read_embeddings(folder: Path, split: str) -> Embeddings:
    """The vectors of one split, "query" or "gallery"; those of an empty split are [0, D]."""
    dim = read_schema(shards(folder)[0]).field("embedding").type.list_size
    ids: list[str] = []
    vectors = [np.empty((0, dim), np.float32)]
    for batch in read_vectors(folder):
        some_ids, some_vectors = ids_and_vectors(
            batch.filter(pc.field("split") == split) if batch.num_rows else batch
        )
        ids.extend(some_ids)
        vectors.append(some_vectors)
    return Embeddings(np.array(ids, dtype=np.str_), np.concatenate(vectors))


def vectors_of(column: pa.FixedSizeListArray) -> npt.NDArray[np.float32]:
    """fixed_size_list<float32>[D] of N rows -> float32 [N, D]."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def ids_and_vectors(rows: pa.RecordBatch) -> tuple[list[str], npt.NDArray[np.float32]]:
    """N rows of embeddings -> their ids, and float32 [N, D]."""
    return rows.column("image_id").to_pylist(), vectors_of(rows.column("embedding"))


def embeddings_batch(images: pa.RecordBatch, vectors: npt.NDArray[np.float32]) -> pa.RecordBatch:
    """Rows of the embeddings' schema.

    Args:
        images: N rows with image_id, split and prepared_id.
        vectors: float32 [N, D], one of each image.
    """
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    known = [images.column(name).cast(pa.string()) for name in ("image_id", "split", "prepared_id")]
    return pa.record_batch([*known, lists], schema=embeddings_schema(vectors.shape[1]))
