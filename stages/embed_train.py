"""embed_train@model: one vector per training photo, for the rows that `leaks.by` names; computes only what no earlier run has."""

from __future__ import annotations

from stages.lib import cli, embedding, encoders, paths, previous_result, tables


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("embed_train", argv)
    folder, photos = paths.trained(model), paths.images("train")
    dim = tables.read_json(folder / encoders.FACTS_FILE)["dim"]
    vectors = embedding.settle(folder, photos, params.embed, lambda key, cache: previous_result.restore(model, key, cache, "train"))
    work = embedding.compute(vectors, photos, params.embed.batch_size)
    rows, metadata = tables.count_rows(photos), {"model": model, "dim": str(dim), "fingerprint": vectors.fingerprint}
    target, schema = paths.embeddings(model, "train"), tables.embeddings_schema(dim)
    tables.write_shards(target, schema, embedding.rows(photos, vectors.cache), rows, tables.VECTORS_PER_SHARD, metadata)
    if rows:
        cli.log.info("%s: %d training photos, %d of them computed now", model, rows, work.computed)
    else:
        cli.log.warning("%s holds no training photo; there is nothing that test photos could be copies of", paths.RAW / "train")


if __name__ == "__main__":
    cli.run(main)
