"""retrieve@model: the nearest gallery images of each query."""

from __future__ import annotations

import logging

import faiss
import pyarrow as pa

from lineup import cli, machine, paths
from lineup.evaluation import relevance
from lineup.search import approximate, exact, gallery
from lineup.storage import embeddings, files, rankings

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("retrieve", argv)
    faiss.omp_set_num_threads(machine.threads())
    metric = params.models[model].search.metric
    answers = relevance.load_relevance(params.relevance.exclude)
    stored = embeddings.read_embeddings(paths.embeddings(model), "query")
    gallery.check_same_images(paths.embeddings(model), answers, stored.ids)
    pa.default_memory_pool().release_unused()  # of the embeddings, before a large index is mapped
    index = exact.load(paths.index(model), metric, len(answers.gallery_ids))
    queries = exact.prepare(metric, stored.ids, stored.vectors, str(paths.embeddings(model)))
    k = answers.required_depth(params.retrieve.depth, *params.score.cutoffs)
    positions, scores = exact.nearest(index, queries, k, answers.excluded())
    rankings.write_ranking(paths.ranking(model), answers.ranking(positions, scores))
    costs = {
        "query_ms": round(exact.query_ms(index, queries, k), 4),
        "k": k,
        **gallery.read_from(paths.embeddings(model)),
        "threads": machine.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    if not isinstance(index, faiss.IndexFlat):
        indexed, cutoffs = (
            gallery.to_index(paths.embeddings(model), metric),
            {*params.score.cutoffs, params.retrieve.depth},
        )
        costs["ann_recall"] = approximate.recalls(positions, queries, answers.excluded(), indexed, cutoffs)
    files.write_json(paths.costs("retrieve", model), costs)
    log.info("%d queries, the %d nearest of %d images each", len(queries), k, index.ntotal)


if __name__ == "__main__":
    cli.run(main)
