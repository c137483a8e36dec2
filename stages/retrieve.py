"""retrieve@model: the nearest gallery images of each query."""

from __future__ import annotations

import faiss
import pyarrow as pa

from stages.lib import approximate_search, cli, gallery, machine, paths, relevance, search, tables


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("retrieve", argv)
    faiss.omp_set_num_threads(cli.threads())
    metric = params.models[model].search.metric
    answers = relevance.load(params.relevance.exclude)
    embeddings = tables.read_embeddings(paths.embeddings(model), "query")
    gallery.check_same_images(paths.embeddings(model), answers, embeddings.ids)
    pa.default_memory_pool().release_unused()  # of the embeddings, before a large index is mapped
    index = search.load(paths.index(model), metric, len(answers.gallery_ids))
    queries = search.prepare(metric, embeddings.ids, embeddings.vectors, str(paths.embeddings(model)))
    k = answers.depth(params.retrieve.k, *params.score.k)
    positions, scores = search.nearest(index, queries, k, answers.excluded())
    tables.write_ranking(paths.ranking(model), answers.ranking(positions, scores))
    costs = {
        "query_ms": round(search.query_ms(index, queries, k), 4),
        "k": k,
        **gallery.read_from(paths.embeddings(model)),
        "threads": cli.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    if not isinstance(index, faiss.IndexFlat):
        indexed, cutoffs = gallery.to_index(paths.embeddings(model), metric), {*params.score.k, params.retrieve.k}
        costs["ann_recall"] = approximate_search.recalls(positions, queries, answers.excluded(), indexed, cutoffs)
    tables.write_json(paths.costs("retrieve", model), costs)
    cli.log.info("%d queries, the %d nearest of %d images each", len(queries), k, index.ntotal)


if __name__ == "__main__":
    cli.run(main)
