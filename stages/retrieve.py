"""retrieve@row: the nearest gallery images of each query."""

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
    folder, metric = paths.embeddings(model), params.models[model].search.metric
    images = relevance.load_relevance(params.relevance.exclude)
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    embedded = embeddings.read_embeddings(folder, "query")
    # Gives the memory of the embeddings back before a large index is mapped.
    pa.default_memory_pool().release_unused()
    index = exact.load(paths.index(model), metric, len(images.gallery_ids))
    queries = exact.prepare(metric, embedded.ids, embedded.vectors, str(folder))
    k = images.required_depth(params.retrieve.depth, *params.score.cutoffs)
    positions, scores = exact.nearest(index, queries, k, images.excluded())
    rankings.write_ranking(paths.ranking(model), images.ranking(positions, scores))
    costs = {
        "query_ms": round(exact.query_ms(index, queries, k), 4),
        "k": k,
        **gallery.identity(folder),
        "threads": machine.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    if not isinstance(index, faiss.IndexFlat):
        vectors = gallery.open_gallery(folder, metric)
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        costs["ann_recall"] = approximate.recalls(positions, queries, images.excluded(), vectors, cutoffs)
    files.write_json(paths.costs("retrieve", model), costs)
    log.info("%d queries, the %d nearest of %d images each", len(queries), k, index.ntotal)


if __name__ == "__main__":
    cli.run(main)
