"""refine@row: a ranking made of what other rows computed; it embeds nothing.

Besides the ranking it writes the row's folder of embeddings and what the method learned. Both folders exist
for every refinement, and say so where the method makes no vectors, or learns nothing.
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
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings, files, parquet, rankings, schemas

log = logging.getLogger(__name__)


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


def open_source(settings: RefinementSettings, params: Params) -> Gallery | None:
    """The gallery's vectors of `with`, if the method needs any."""
    if not settings.needs_vectors:
        return None
    metric = refinements.metric_of(settings.second, params)
    return gallery.open_gallery(paths.embeddings(settings.second), metric)


def learn(row: str, method: Refinement[Any], source: Gallery | None, depth: int) -> LearnedSpace | None:
    """Learns what the method has to learn, and writes it, the row's index and the row's embeddings."""
    folder, searched = paths.embeddings(method.settings.second), source
    learned = None
    if source is not None:
        learned = method.learn(source, depth, f"{paths.PARAMS}: refinements.{row}")
    if source is not None and learned is not None and method.settings.makes_vectors:
        write_vectors(row, folder, source, learned)
        searched = gallery.open_gallery(paths.embeddings(row), source.metric)
    else:
        files.write_nothing(paths.embeddings(row))
    refinements.save_learned(paths.refinement(row), learned, row, folder, searched)
    return learned


def write_vectors(row: str, folder: Path, source: Gallery, learned: LearnedSpace) -> None:
    """Writes all vectors of a folder of embeddings, in the learned space, as the row's embeddings.

    source: the gallery's side of the folder.
    """
    dim = learned.transform(np.empty((0, source.dim), np.float32)).shape[1]

    def transformed() -> Iterator[pa.RecordBatch]:
        for batch in embeddings.read_vectors(folder):
            vectors = exact.prepare(source.metric, *embeddings.ids_and_vectors(batch), str(folder))
            yield embeddings.embeddings_batch(batch, learned.transform(vectors))

    metadata = {**replace(embeddings.origin(folder), row=row).metadata(), "dim": str(dim)}
    parquet.write_shards(
        paths.embeddings(row),
        schemas.embeddings_schema(dim),
        transformed(),
        parquet.count_rows(folder),
        schemas.VECTORS_PER_SHARD,
        metadata,
    )


def read_input(
    row: str,
    method: Refinement[Any],
    source: Gallery | None,
    learned: LearnedSpace | None,
    images: Relevance,
    depth: int,
) -> RefinementInput:
    """The rankings that the row is made of, and the space in which its method compares vectors."""
    settings, space = method.settings, None
    if source is not None:
        vectors = row if settings.makes_vectors else settings.second
        space = read_space(vectors, source.metric, row if learned else None, images)
    first, second = read_hits(settings.first, images), read_hits(settings.second, images)
    return RefinementInput(first, second, space, images.excluded(), depth, learned)


def read_space(vectors: str, metric: Metric, owner: str | None, images: Relevance) -> VectorSpace:
    """The vectors of a row, in an index.

    owner: the refinement whose stored index is searched; None for an exact index that is built here.
    """
    folder = paths.embeddings(vectors)
    queries = read_queries(folder, metric, images)
    if owner is None:
        index = gallery.open_gallery(folder, metric).flat_index()
    else:
        index = refinements.load_index(paths.refinement(owner), metric, len(images.gallery_ids))
    return VectorSpace(metric, images.query_ids, queries, index)


def read_queries(folder: Path, metric: Metric, images: Relevance) -> Vectors:
    """The vectors of the queries as they are searched, float32 [Q, D]."""
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    queries = embeddings.read_embeddings(folder, "query")
    return exact.prepare(metric, queries.ids, queries.vectors, str(folder))


def read_hits(row: str, images: Relevance) -> Hits:
    ranking = rankings.read_ranking(paths.ranking(row))
    return Hits(relevance.gallery_positions(ranking, images, str(paths.ranking(row))), ranking.scores)


def index_costs(row: str, learned: LearnedSpace | None, space: VectorSpace | None) -> dict[str, Any]:
    """The part of the row's costs that its own index causes; empty if it has none."""
    if learned is None or space is None:
        return {}
    index_mb = learned.index_bytes(paths.refinement(row)) / 1e6
    described: dict[str, Any] = {"dim": space.index.d, "index_mb": round(index_mb, 3)}
    if learned.note is not None:
        described["note"] = learned.note
    if learned.setup is not None:
        described["search"] = learned.setup.as_json()
    return described


def index_recalls(
    learned: LearnedSpace | None,
    source: Gallery | None,
    given: RefinementInput,
    hits: Hits,
    cutoffs: set[int],
) -> dict[str, Any]:
    """For the row's costs: how much of the exact search an approximate index finds; empty for others."""
    if learned is None or learned.setup is None or source is None or given.space is None:
        return {}
    queries = given.space.queries
    return {
        "ann_recall": approximate.recalls(hits.positions, queries, given.excluded, source, cutoffs),
    }


def query_costs(
    method: Refinement[Any],
    source: Gallery | None,
    learned: LearnedSpace | None,
    given: RefinementInput,
    images: Relevance,
) -> dict[str, float]:
    """Mean wall milliseconds of one query, beyond those in the rows that the refinement is made of.

    transform_ms, in which its vector is brought into the row's own space, is part of query_ms. It is given
    apart, since a row that uses these vectors without searching them pays for it, too.
    """
    query_ms = method.query_ms(given)
    if learned is None or source is None or not method.settings.makes_vectors:
        return {"query_ms": round(query_ms, 4)}
    queries = read_queries(paths.embeddings(method.settings.second), source.metric, images)
    transform_ms = mean_ms(lambda query: learned.transform(queries[query : query + 1]), len(queries))
    return {"query_ms": round(transform_ms + query_ms, 4), "transform_ms": round(transform_ms, 4)}


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(machine.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    method = refinements.create(settings)
    images = relevance.load_relevance(params.relevance.exclude)
    depth = images.required_depth(params.retrieve.depth, *params.score.cutoffs)
    check_depth(row, settings, depth, len(images.gallery_ids))
    source = open_source(settings, params)
    learned = learn(row, method, source, params.retrieve.depth)
    given = read_input(row, method, source, learned, images, depth)
    costs = index_costs(row, learned, given.space)
    hits = method.rank(given)
    rankings.write_ranking(paths.ranking(row), images.ranking(*hits))
    costs |= index_recalls(learned, source, given, hits, {*params.score.cutoffs, params.retrieve.depth})
    costs["seconds"] = round(time.perf_counter() - start, 3)
    fingerprint = embeddings.origin(paths.embeddings(settings.second)).fingerprint if source else None
    costs |= {
        **query_costs(method, source, learned, given, images),
        "method": settings.method,
        "row": row,
        "fingerprint": fingerprint,
        "builds_index": settings.builds_index,
        "searches_second": settings.searches_second,
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
