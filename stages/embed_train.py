"""embed_train@model: one vector per training photo, for the rows that `near_copies.rows` names.

Computes only what no earlier run has.
"""

from __future__ import annotations

import logging

import pyarrow as pa

from lineup import cli, paths
from lineup.embedding import dvc_cache, job
from lineup.encoders import model_folder

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("embed_train", argv)
    pa.set_memory_pool(pa.system_memory_pool())  # as embed does
    folder, photos = model_folder.resolve(paths.model(model)), paths.images("train")
    vectors = job.settle(
        folder, photos, params.embed, lambda key, cache: dvc_cache.restore(model, key, cache, "train")
    )
    work = job.compute(vectors, photos, params.embed)
    if rows := job.write(model, "train", vectors):
        log.info("%s: %d training photos, %d of them computed now", model, rows, work.computed)
    else:
        log.warning(
            "%s holds no training photo; there is nothing that test photos could be copies of",
            paths.RAW / "train",
        )


if __name__ == "__main__":
    cli.run(main)
