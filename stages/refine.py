"""refine@row: a ranking made of what other rows computed; it embeds nothing.

Besides the ranking it writes the row's embeddings and what the method learned. Both folders exist for every
refinement, as DVC expects them; where the method makes no vectors or learns nothing, a file in them says so.
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
from lineup.refinements import costs
from lineup.refinements import refinement as refinements
from lineup.refinements.costs import IndexCosts, QueryCosts
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput, VectorSpace
from lineup.relevance import prepared_relevance, relevance
from lineup.relevance.relevance import Relevance
from lineup.search import exact, gallery
from lineup.search.exact import Metric, Vectors
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings, files, parquet, rankings, schemas

log = logging.getLogger(__name__)


def check_depth(row: str, settings: RefinementSettings, depth: int, images: int) -> None:
    """Checks that the rankings of `from` are as deep as the method reads them.

    Args:
        depth: that of all rankings.
        images: how many the gallery has.
    Raises:
        UserError: they are not, although the gallery has more images.
    """
    for name, ranks in settings.ranks_read().items():
        if depth < min(ranks, images):
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
    """Learns what the method has to learn, and writes it, the row's index and the row's embeddings.

    Args:
        source: what `open_source` returned.
        depth: retrieve.depth.
    """
    folder, indexed, learned = paths.embeddings(method.settings.second), source, None
    if source is not None:
        learned = method.learn(source, depth, f"{paths.PARAMS}: refinements.{row}")
    if source is not None and learned is not None and method.settings.makes_vectors:
        write_vectors(row, folder, source, learned)
        indexed = gallery.open_gallery(paths.embeddings(row), source.metric)
    else:
        files.write_nothing(paths.embeddings(row))
    refinements.save_learned(paths.refinement(row), learned, row, folder, indexed)
    return learned


def write_vectors(row: str, folder: Path, source: Gallery, learned: LearnedSpace) -> None:
    """Writes the row's embeddings: all vectors of another row, in the learned space.

    Args:
        folder: the embeddings of the other row, which `with` names.
        source: its gallery.
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
        compared = row if settings.makes_vectors else settings.second
        space = read_space(compared, source.metric, row if learned else None, images)
    first, second = read_hits(settings.first, images), read_hits(settings.second, images)
    return RefinementInput(first, second, space, images.excluded(), depth, learned)


def read_space(row: str, metric: Metric, index_of: str | None, images: Relevance) -> VectorSpace:
    """The vectors of a row, in an index.

    index_of: the refinement whose stored index is searched; None for an exact index that is built here.
    """
    folder = paths.embeddings(row)
    queries = read_queries(folder, metric, images)
    if index_of is None:
        index = gallery.open_gallery(folder, metric).flat_index()
    else:
        index = refinements.load_index(paths.refinement(index_of), metric, len(images.gallery_ids))
    return VectorSpace(metric, images.query_ids, queries, index)


def read_queries(folder: Path, metric: Metric, images: Relevance) -> Vectors:
    """The vectors of the queries as they are searched, float32 [Q, D]."""
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    queries = embeddings.read_embeddings(folder, "query")
    return exact.prepare(metric, queries.ids, queries.vectors, str(folder))


def read_hits(row: str, images: Relevance) -> Hits:
    """The ranking of a row."""
    ranking = rankings.read_ranking(paths.ranking(row))
    return Hits(relevance.gallery_positions(ranking, images, str(paths.ranking(row))), ranking.scores)


def write_costs(
    row: str,
    settings: RefinementSettings,
    depth: int,
    seconds: float,
    index: IndexCosts | None,
    query: QueryCosts,
) -> None:
    """Writes what the refinement cost.

    Args:
        depth: how many images its ranking has for each query.
        seconds: what the ranking took, with all that was learned for it.
        index: of the row's own index; None if it has none.
    """
    fingerprint = None
    if settings.needs_vectors:
        fingerprint = embeddings.origin(paths.embeddings(settings.second)).fingerprint
    files.write_json(
        paths.costs("refine", row),
        {
            **(index.to_json() if index else {}),
            **query.to_json(),
            "row": row,
            "method": settings.method,
            "fingerprint": fingerprint,
            "builds_index": settings.builds_index,
            "searches_second": settings.searches_second,
            "k": depth,
            "seconds": round(seconds, 3),
            "threads": machine.threads(),
            "device": machine.cpu_name(),
            "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        },
    )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(machine.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    method = refinements.create(settings)
    images = prepared_relevance.load_relevance(params.relevance.exclude)
    depth = images.required_depth(params.retrieve.depth, *params.score.cutoffs)
    check_depth(row, settings, depth, len(images.gallery_ids))
    source = open_source(settings, params)
    learned = learn(row, method, source, params.retrieve.depth)
    given = read_input(row, method, source, learned, images, depth)
    hits = method.rank(given)
    rankings.write_ranking(paths.ranking(row), images.ranking(*hits))
    index, queries = None, None
    if source is not None and learned is not None:
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        index = costs.of_index(learned, paths.refinement(row), given, source, hits, cutoffs)
    seconds = time.perf_counter() - start
    if source is not None and settings.makes_vectors:
        queries = read_queries(paths.embeddings(settings.second), source.metric, images)
    write_costs(row, settings, depth, seconds, index, costs.of_query(method, given, queries))
    log.info(
        "%d queries, the %d nearest of %d images each", len(images.query_ids), depth, len(images.gallery_ids)
    )


if __name__ == "__main__":
    cli.run(main)
