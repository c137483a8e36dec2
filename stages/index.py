"""index@model: the gallery's vectors in a FAISS index, in the order of their ids."""

from __future__ import annotations

import logging
import time
from typing import Any

from lineup import cli, machine, paths
from lineup.search import approximate, exact, gallery
from lineup.storage import files

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("index", argv)
    start = time.perf_counter()
    settings, path, facts = params.models[model].search, paths.index(model), dict[str, Any]()
    indexed = gallery.to_index(paths.embeddings(model), settings.metric)
    if approximate.is_exact(settings, indexed.rows):
        exact.build_file(path, indexed.metric, indexed.dim, indexed.rows, indexed.batches(), indexed.place)
    else:
        built = approximate.build(
            settings, indexed, params.retrieve.depth, f"{paths.PARAMS}: models.{model}.search"
        )
        exact.save(path, built.index)
        facts = {"search": built.facts}
        log.info("%s", built.facts)
    costs = {
        "seconds": round(time.perf_counter() - start, 3),
        "index_mb": round(path.stat().st_size / 1e6, 3),
        "vectors": indexed.rows,
        "dim": indexed.dim,
        **gallery.read_from(paths.embeddings(model)),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        **facts,
    }
    files.write_json(paths.costs("index", model), costs)
    log.info("%d vectors of %d dimensions, %.1f MB", indexed.rows, indexed.dim, costs["index_mb"])


if __name__ == "__main__":
    cli.run(main)
