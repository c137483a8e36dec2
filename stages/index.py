"""index@row: the gallery's vectors in a FAISS index, in the order of their ids."""

from __future__ import annotations

import logging
import time
from typing import Any

from lineup import cli, machine, paths
from lineup.search import approximate, flat_index, gallery, parted_build
from lineup.storage import files

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("index", argv)
    start = time.perf_counter()
    settings, path = params.models[model].search, paths.index(model)
    vectors = gallery.open_gallery(paths.embeddings(model), settings.metric)
    costs: dict[str, Any] = {}
    if approximate.is_exact(settings, vectors.size):
        flat_index.build_file(
            path, vectors.metric, vectors.dim, vectors.size, vectors.batches(), vectors.source
        )
    else:
        setting = f"{paths.PARAMS}: models.{model}.search"
        setup = parted_build.build_file(
            path, settings, vectors, params.retrieve.depth, setting, settings.part_rows
        )
        costs["search"] = setup.as_json()
        log.info("%s", costs["search"])
    costs |= {
        "seconds": round(time.perf_counter() - start, 3),
        "index_mb": round(path.stat().st_size / 1e6, 3),
        "vectors": vectors.size,
        "dim": vectors.dim,
        **gallery.identity(paths.embeddings(model)),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    files.write_json(paths.costs("index", model), costs)
    log.info("%d vectors of %d dimensions, %.1f MB", vectors.size, vectors.dim, costs["index_mb"])


if __name__ == "__main__":
    cli.run(main)
