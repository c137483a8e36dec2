"""refine@row: a ranking made of what other rows computed; it embeds nothing.

Besides the ranking it writes the row's embeddings and what the method learned. Both folders exist for every
refinement, as DVC expects them; where the method makes no vectors or learns nothing, a file in them says so.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import faiss

from lineup import cli, machine, paths
from lineup.refinements import costs, own_vectors, sources
from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import LearnedSpace, Refinement
from lineup.relevance import prepared_relevance
from lineup.search import gallery
from lineup.search.gallery import Gallery
from lineup.storage import files, rankings

log = logging.getLogger(__name__)


def learn(row: str, method: Refinement[Any], source: Gallery | None, depth: int) -> LearnedSpace | None:
    """Learns what the method has to learn, and writes it, the row's index and the row's embeddings.

    Args:
        source: the gallery of `with`; None where the method needs no vectors.
        depth: retrieve.depth.
    """
    folder, indexed, learned = paths.embeddings(method.settings.second), source, None
    if source is not None:
        learned = method.learn(source, depth, f"{paths.PARAMS}: refinements.{row}")
    if source is not None and learned is not None and method.settings.makes_vectors:
        own_vectors.write(row, folder, source, learned)
        indexed = gallery.open_gallery(paths.embeddings(row), source.metric)
    else:
        files.write_nothing(paths.embeddings(row))
    refinements.save_learned(paths.refinement(row), learned, row, folder, indexed)
    return learned


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(machine.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    method = refinements.create(settings)
    images = prepared_relevance.load_relevance(params.relevance.exclude)
    depth = images.required_depth(params.retrieve.depth, *params.score.cutoffs)
    sources.check_depth(row, settings, depth, len(images.gallery_ids))
    source = sources.open_gallery(settings, params)
    learned = learn(row, method, source, params.retrieve.depth)
    given = sources.read(row, method, source, learned, images, depth)
    hits = method.rank(given)
    rankings.write_ranking(paths.ranking(row), images.ranking(*hits))
    index, queries = None, None
    if source is not None and learned is not None:
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        index = costs.of_index(learned, paths.refinement(row), given, source, hits, cutoffs)
    seconds = time.perf_counter() - start
    if source is not None and settings.makes_vectors:
        queries = sources.read_queries(paths.embeddings(settings.second), source.metric, images)
    query = costs.of_query(method, given, queries)
    files.write_json(paths.costs("refine", row), costs.record(row, settings, depth, seconds, index, query))
    log.info(
        "%d queries, the %d nearest of %d images each", len(images.query_ids), depth, len(images.gallery_ids)
    )


if __name__ == "__main__":
    cli.run(main)
