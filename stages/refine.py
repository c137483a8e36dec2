"""refine@row: a ranking made of what other rows computed; it embeds nothing.

Besides the ranking it writes the row's folder of embeddings and what the method learned. Both folders exist
for every refinement, and are empty where the method makes no vectors, or learns nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from lineup import cli, machine, paths
from lineup.errors import UserError
from lineup.evaluation import relevance
from lineup.evaluation.relevance import Relevance
from lineup.refinements import refinement as refinements
from lineup.refinements.hits import Hits
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput, VectorSpace, mean_ms
from lineup.search import approximate, exact, gallery
from lineup.search.exact import Metric, Vectors
from lineup.search.gallery import Gallery
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings, files, parquet, rankings, schemas

log = logging.getLogger(__name__)


def read_hits(row: str, images: Relevance) -> Hits:
    ranking = rankings.read_ranking(paths.ranking(row))
    return Hits(relevance.gallery_positions(ranking, images, str(paths.ranking(row))), ranking.scores)


def read_queries(folder: Path, metric: Metric, images: Relevance) -> Vectors:
    """The vectors of the queries as they are searched, float32 [Q, D]."""
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    queries = embeddings.read_embeddings(folder, "query")
    return exact.prepare(metric, queries.ids, queries.vectors, str(folder))


def read_space(
    row: str, method: Refinement[Any], metric: Metric, learned: LearnedSpace | None, images: Relevance
) -> VectorSpace | None:
    """Where the method compares vectors: the row's own if it makes any, else those of `with`."""
    if not method.settings.needs_vectors:
        return None
    folder = paths.embeddings(row if method.settings.makes_vectors else method.settings.second)
    queries, vectors = read_queries(folder, metric, images), gallery.open_gallery(folder, metric)
    index = vectors.flat_index() if learned is None else learned.index(vectors)
    return VectorSpace(metric, images.query_ids, queries, index)


def write_vectors(row: str, source: Path, vectors: Gallery, learned: LearnedSpace) -> None:
    """Writes all vectors of a folder of embeddings in the learned space, as the row's embeddings.

    vectors: the gallery's side of `source`.
    """
    dim = learned.transform(np.empty((0, vectors.dim), np.float32)).shape[1]

    def transformed() -> Iterator[pa.RecordBatch]:
        for batch in embeddings.read_vectors(source):
            prepared = exact.prepare(vectors.metric, *embeddings.ids_and_vectors(batch), str(source))
            yield embeddings.embeddings_batch(batch, learned.transform(prepared))

    metadata = {**replace(embeddings.origin(source), row=row).metadata(), "dim": str(dim)}
    parquet.write_shards(
        paths.embeddings(row),
        schemas.embeddings_schema(dim),
        transformed(),
        parquet.count_rows(source),
        schemas.VECTORS_PER_SHARD,
        metadata,
    )


def transform_ms(learned: LearnedSpace, queries: Vectors) -> float:
    """Mean wall milliseconds in which a query's vector is brought into the row's own space.

    queries: the vectors of `with`, float32 [Q, D].
    """
    return mean_ms(lambda query: learned.transform(queries[query : query + 1]), len(queries))


def check_depth(row: str, settings: RefinementSettings, depth: int, images: int) -> None:
    """Checks that rankings are as deep as the method reads them.

    Raises:
        UserError: they are not, although the gallery has more images.
    """
    for name, ranks in settings.ranks_read().items():
        if ranks > depth < images:
            raise UserError(
                f"{paths.PARAMS}: refinements.{row}.{name} is {ranks}, but rankings are {depth} deep; "
                f"set retrieve.depth to {ranks} or more"
            )


def index_costs(learned: LearnedSpace, index: faiss.Index) -> dict[str, Any]:
    """What the row's costs say of its own index."""
    described: dict[str, Any] = {"dim": index.d, "index_mb": round(exact.size(index) / 1e6, 3)}
    if learned.note is not None:
        described["note"] = learned.note
    if learned.setup is not None:
        described["search"] = learned.setup.as_json()
    return described


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(machine.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    method = refinements.create(settings)
    images = relevance.load(params.relevance.exclude)
    depth = images.depth(params.retrieve.depth, *params.score.cutoffs)
    check_depth(row, settings, depth, len(images.gallery_ids))

    source, metric = paths.embeddings(settings.second), refinements.metric_of(settings.second, params)
    vectors = gallery.open_gallery(source, metric) if settings.needs_vectors else None
    setting = f"{paths.PARAMS}: refinements.{row}"
    learned = method.learn(vectors, params.retrieve.depth, setting) if vectors is not None else None
    refinements.save_learned(paths.refinement(row), learned, row, source)
    if vectors is not None and learned is not None and settings.makes_vectors:
        write_vectors(row, source, vectors, learned)
    else:
        files.replace_atomically(paths.embeddings(row), Path.mkdir)

    space = read_space(row, method, metric, learned, images)
    # Before the search, in which an inverted file makes a map that the saved index does not have.
    costs = index_costs(learned, space.index) if learned is not None and space is not None else {}
    first, second = read_hits(settings.first, images), read_hits(settings.second, images)
    given = RefinementInput(first, second, space, images.excluded(), depth)
    hits = method.rank(given)
    rankings.write_ranking(paths.ranking(row), images.ranking(*hits))
    if learned is not None and learned.setup is not None and space is not None and vectors is not None:
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        costs["ann_recall"] = approximate.recalls(
            hits.positions, space.queries, given.excluded, vectors, cutoffs
        )
    costs["seconds"] = round(time.perf_counter() - start, 3)
    milliseconds = method.query_ms(given)
    if learned is not None and settings.makes_vectors:
        transforming = transform_ms(learned, read_queries(source, metric, images))
        costs["transform_ms"] = round(transforming, 4)
        milliseconds += transforming
    costs |= {
        "method": settings.method,
        "row": row,
        "fingerprint": embeddings.origin(source).fingerprint if settings.needs_vectors else None,
        "builds_index": settings.builds_index,
        "searches_second": settings.searches_second,
        "query_ms": round(milliseconds, 4),
        "k": depth,
        "threads": machine.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    files.write_json(paths.costs("refine", row), costs)
    log.info(
        "%d queries, the %d nearest of %d images each", len(images.query_ids), depth, len(images.gallery_ids)
    )


if __name__ == "__main__":
    cli.run(main)
