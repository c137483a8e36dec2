"""The gallery in an exported folder: a Parquet table with vectors, and the same images without them as CSV.

lineup_row.py reads the CSV file, so that a service needs no package for Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lineup.export.search_plan import SearchPlan
from lineup.search.vectors import Vectors
from lineup.serving.gallery_photos import GalleryPhotos
from lineup.storage import csv_files

PARQUET, CSV = "gallery.parquet", "gallery.csv"
COLUMNS = ("image_id", "path", "label")
_ROWS_PER_GROUP = 8_192


def vector_column(space: str, plan: SearchPlan) -> str:
    """The column with a space's vectors: "vector", or one for each where a row compares several."""
    return "vector" if len(plan.spaces) == 1 else f"vector_{space}"


def write(folder: Path, photos: GalleryPhotos, plan: SearchPlan) -> None:
    """Writes both files, sorted by image_id, which is the order of the index. An image has its first path."""
    table = photos.table
    ids, labels = table.column("image_id").to_pylist(), table.column("label").to_pylist()
    first_paths = [several[0] for several in table.column("paths").to_pylist()]
    csv_files.write_csv(folder / CSV, COLUMNS, zip(ids, first_paths, labels, strict=True))
    names = pa.table({"image_id": ids, "path": first_paths, "label": pa.array(labels, pa.string())})
    _write_parquet(folder / PARQUET, names, plan)


def _write_parquet(file: Path, names: pa.Table, plan: SearchPlan) -> None:
    """One row group of vectors is in memory at a time."""
    groups = {space: _regrouped(plan.gallery_vectors(space)) for space in plan.spaces}
    with ExitStack() as stack:
        writer = None
        for start in range(0, names.num_rows, _ROWS_PER_GROUP):
            part = names.slice(start, _ROWS_PER_GROUP)
            for space, vectors in groups.items():
                group = next(vectors)
                column = pa.FixedSizeListArray.from_arrays(pa.array(group.reshape(-1)), group.shape[1])
                part = part.append_column(vector_column(space, plan), column)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, part.schema, compression="ZSTD"))
            writer.write_table(part)


def _regrouped(batches: Iterator[Vectors]) -> Iterator[Vectors]:
    """The same vectors, _ROWS_PER_GROUP at a time."""
    waiting: list[Vectors] = []
    for batch in batches:
        waiting.append(batch)
        while sum(map(len, waiting)) >= _ROWS_PER_GROUP:
            joined = np.concatenate(waiting)
            yield joined[:_ROWS_PER_GROUP]
            waiting = [joined[_ROWS_PER_GROUP:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
