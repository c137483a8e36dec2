"""The vectors of a refinement that makes some: all those of another row, in the space that it learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lineup import paths
from lineup.refinements.refinement import LearnedSpace
from lineup.search.gallery import Gallery
from lineup.search.vectors import prepare_vectors
from lineup.storage import embeddings, parquet, schemas


def write(row: str, folder: Path, source: Gallery, learned: LearnedSpace) -> None:
    """Writes the row's embeddings.

    Args:
        folder: the embeddings of the other row, which `with` names.
        source: its gallery.
    """
    dim = learned.transform(np.empty((0, source.dim), np.float32)).shape[1]

    def transformed() -> Iterator[pa.RecordBatch]:
        for batch in embeddings.read_vectors(folder):
            vectors = prepare_vectors(source.metric, *embeddings.ids_and_vectors(batch), str(folder))
            yield embeddings.embeddings_batch(batch, learned.transform(vectors))

    metadata = {**replace(embeddings.origin(folder), row=row).metadata(), "dim": str(dim)}
    parquet.write_shards(
        paths.embeddings(row),
        schemas.embeddings_schema(dim),
        transformed(),
        parquet.count_rows(folder),
        schemas.VECTORS_PER_SHARD,
        metadata,
    )
