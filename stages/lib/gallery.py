"""The gallery's side of a folder of embeddings, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.lib import paths, search, tables
from stages.lib.errors import UserError
from stages.lib.relevance import Relevance


def rows(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The gallery's rows in the order of their ids; `columns` must hold split."""
    for batch in tables.read_shards(folder, columns, batch_rows=8_192):
        if batch.num_rows:
            yield batch.filter(pc.field("split") == "gallery")


def dim(folder: Path) -> int:
    return pq.read_schema(tables.shards(folder)[0]).field("embedding").type.list_size


def index(folder: Path, metric: search.Metric) -> faiss.IndexFlat:
    """Flat index of the gallery of an embeddings folder; reads it as a stream. UserError if the gallery is empty."""
    count = sum(batch.num_rows for batch in rows(folder, ["split"]))
    if count == 0:
        raise UserError(f"{folder}: holds no gallery image to search in; put some into data/raw/test/gallery and run `dvc repro`")
    batches = ((batch.column("image_id").to_pylist(), tables.vectors_of(batch.column("embedding"))) for batch in rows(folder))
    return search.build(metric, dim(folder), count, batches, str(folder))


def check_same_images(folder: Path, answers: Relevance, queries: npt.NDArray[np.str_]) -> None:
    """UserError unless the embeddings, with these ids of queries, are of the manifest's images."""
    found: list[str] = []
    for batch in rows(folder, ["image_id", "split"]):
        found += batch.column("image_id").to_pylist()
    if not np.array_equal(queries, answers.query_ids) or not np.array_equal(np.array(found, np.str_), answers.gallery_ids):
        raise UserError(f"{folder}: holds other images than {paths.manifest('test')}; run `dvc repro` to embed them again")
