"""embed_train@model: one vector per training photo, for the rows that `leaks.by` names; computes only what no earlier run has."""

from __future__ import annotations

import pyarrow as pa

from stages.lib import cli, embedding, paths, previous_result


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("embed_train", argv)
    pa.set_memory_pool(pa.system_memory_pool())  # as embed does
    folder, photos = paths.trained(model), paths.images("train")
    vectors = embedding.settle(folder, photos, params.embed, lambda key, cache: previous_result.restore(model, key, cache, "train"))
    work = embedding.compute(vectors, photos, params.embed)
    if rows := embedding.write(model, "train", vectors):
        cli.log.info("%s: %d training photos, %d of them computed now", model, rows, work.computed)
    else:
        cli.log.warning("%s holds no training photo; there is nothing that test photos could be copies of", paths.RAW / "train")


if __name__ == "__main__":
    cli.run(main)
