"""index@model: the gallery's vectors in a FAISS index, in the order of their ids."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.lib import cli, machine, paths, search, tables
from stages.lib.errors import UserError


def index(folder: Path, metric: search.Metric) -> faiss.IndexFlat:
    """Flat index of the gallery of an embeddings folder; reads it as a stream. UserError if the gallery is empty."""
    dim = pq.read_schema(tables.shards(folder)[0]).field("embedding").type.list_size
    rows = sum(batch.num_rows for batch in _gallery(folder, ["split"]))
    if rows == 0:
        raise UserError(f"{folder}: holds no gallery image to search in; put some into data/raw/test/gallery and run `dvc repro`")
    batches = ((batch.column("image_id").to_pylist(), tables.vectors_of(batch.column("embedding"))) for batch in _gallery(folder))
    return search.build(metric, dim, rows, batches, str(folder))


def _gallery(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    for batch in tables.read_shards(folder, columns, batch_rows=8_192):
        if batch.num_rows:
            yield batch.filter(pc.field("split") == "gallery")


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("index", argv)
    start = time.perf_counter()
    built = index(paths.embeddings(model), params.models[model].search.metric)
    search.save(paths.index(model), built)
    costs = {
        "seconds": round(time.perf_counter() - start, 3),
        "index_mb": round(paths.index(model).stat().st_size / 1e6, 3),
        "vectors": built.ntotal,
        "dim": built.d,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    tables.write_json(paths.costs("index", model), costs)
    cli.log.info("%d vectors of %d dimensions, %.1f MB", built.ntotal, built.d, costs["index_mb"])


if __name__ == "__main__":
    cli.run(main)
