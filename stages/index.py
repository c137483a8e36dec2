"""index@model: the gallery's vectors in a FAISS index, in the order of their ids."""

from __future__ import annotations

import time

from stages.lib import cli, gallery, machine, paths, search, tables


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("index", argv)
    start = time.perf_counter()
    built = gallery.index(paths.embeddings(model), params.models[model].search.metric)
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
