"""retrieve@row: the nearest gallery images of each query."""

from __future__ import annotations

import logging

import faiss
import pyarrow as pa

from lineup import cli, machine, paths
from lineup.relevance import prepared_relevance
from lineup.search import approximate, gallery, ground_truth, index_file, part_search
from lineup.search.vectors import prepare_vectors
from lineup.storage import embeddings, files, rankings

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("retrieve", argv)
    faiss.omp_set_num_threads(machine.threads())
    folder, settings = paths.embeddings(model), params.models[model].search
    images = prepared_relevance.load_relevance(params.relevance.exclude)
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    embedded = embeddings.read_embeddings(folder, "query")
    # Gives the memory of the embeddings back before a large index is mapped.
    pa.default_memory_pool().release_unused()
    queries = prepare_vectors(settings.metric, embedded.ids, embedded.vectors, str(folder))
    gallery_images = len(images.gallery_ids)
    k = images.required_depth(params.retrieve.depth, *params.score.cutoffs)
    file = index_file.open_file(paths.index(model), settings.metric, gallery_images, settings.part_rows)
    (positions, scores), searched = part_search.search(file, queries, k, images.excluded())
    rankings.write_ranking(paths.ranking(model), images.ranking(positions, scores))
    costs = {
        "query_ms": round(searched.query_ms, 4),
        "k": k,
        **gallery.identity(folder),
        "threads": searched.threads,
        "device": searched.device,
        "peak_memory_mb": round(searched.peak_memory_mb, 1),
    }
    if not approximate.is_exact(settings, gallery_images):
        vectors = gallery.open_gallery(folder, settings.metric)
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        costs["ann_recall"] = ground_truth.recalls(positions, queries, images.excluded(), vectors, cutoffs)
    files.write_json(paths.costs("retrieve", model), costs)
    log.info("%d queries, the %d nearest of %d images each", len(queries), k, gallery_images)


if __name__ == "__main__":
    cli.run(main)
