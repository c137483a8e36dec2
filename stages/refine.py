"""refine@row: a ranking made of what other rows computed; embeds nothing.

Also makes the row's folder of embeddings: with vectors only where the method makes new ones (whitening), else
empty, so that every row can be the `from` and `with` of another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pyarrow as pa

from lineup import cli, machine, paths
from lineup.errors import UserError
from lineup.evaluation import relevance
from lineup.evaluation.relevance import Relevance
from lineup.refinements import refinement as refinements
from lineup.refinements import whitening
from lineup.refinements.refinement import Found, Space, Task
from lineup.search import approximate, exact, gallery
from lineup.search.exact import Vectors
from lineup.settings.params import Params
from lineup.settings.refinement import Approximate, KReciprocal, QueryExpansion, Refinement, Whitening
from lineup.storage import embeddings, files, parquet, rankings, schemas

log = logging.getLogger(__name__)


def query_ms(settings: Refinement, task: Task) -> float:
    """Mean wall milliseconds that one query takes beyond what the rows it's made of take, its way into the
    space left out.

    A search is that of FAISS alone, as `retrieve` measures it.
    """
    method = refinements.method(settings)
    run = getattr(method, "queries", None) or method.refine
    mean = mean_ms(lambda query: run(settings, task.only(query)), len(task.first.positions))
    if task.space is None or not hasattr(method, "queries"):
        return mean
    return mean + exact.query_ms(task.space.index, method.queries(settings, task), task.k)


def mean_ms(run: Callable[[int], object], queries: int, sample: int = 100) -> float:
    """Mean wall milliseconds of run(query), over up to `sample` of them, after a warm-up."""
    picked = np.linspace(0, queries - 1, min(sample, queries)).astype(int).tolist()
    for query in picked[:10]:
        run(query)
    start = time.perf_counter()
    for query in picked:
        run(query)
    return (time.perf_counter() - start) * 1000 / len(picked)


def metric_of(row: str, params: Params) -> exact.Metric:
    """A whitening is searched as the model that it comes from."""
    while row in params.refinements:
        row = params.refinements[row].second
    return params.models[row].search.metric


def read_found(row: str, answers: Relevance) -> Found:
    ranking = rankings.read_ranking(paths.ranking(row))
    return Found(relevance.gallery_positions(ranking, answers, str(paths.ranking(row))), ranking.scores)


class Made(NamedTuple):
    """space: where the method compares vectors.

    Query_ms: what it takes to bring a query's vector there; facts: for the costs.
    """

    space: Space | None
    query_ms: float
    facts: dict[str, Any]


def read_queries(folder: Path, metric: exact.Metric, answers: Relevance) -> Vectors:
    """float32 [Q, D], as they're searched with."""
    queries = embeddings.read_embeddings(folder, "query")
    gallery.check_same_images(folder, answers, queries.ids)
    return exact.prepare(metric, queries.ids, queries.vectors, str(folder))


def read_space(
    folder: Path, metric: exact.Metric, answers: Relevance, index: faiss.Index | None = None
) -> Space:
    """index: of the folder's gallery; default: an exact one."""
    return Space(
        metric,
        answers.query_ids,
        read_queries(folder, metric, answers),
        index or gallery.index(folder, metric),
    )


def whiten(source: Path, target: Path, metric: exact.Metric, dim: int, row: str) -> whitening.Projection:
    """Learns on the gallery in `source`, and writes all its vectors projected to `target`.

    Reads them twice, as a stream.
    """
    learned = whitening.learn(gallery.prepared(source, metric), gallery.dim(source), dim)

    def projected() -> Iterator[pa.RecordBatch]:
        for batch in embeddings.read_vectors(source):
            prepared = exact.prepare(metric, *embeddings.ids_and_vectors(batch), str(source))
            yield embeddings.embeddings_batch(batch, learned.apply(prepared))

    rows = parquet.count_rows(source)
    metadata = {**replace(embeddings.origin(source), row=row).metadata(), "dim": str(dim)}
    parquet.write_shards(
        target, schemas.embeddings_schema(dim), projected(), rows, schemas.VECTORS_PER_SHARD, metadata
    )
    return learned


def make_space(row: str, settings: Refinement, metric: exact.Metric, answers: Relevance, k: int) -> Made:
    """Also makes the row's folder of embeddings."""
    source, target = paths.embeddings(settings.second), paths.embeddings(row)
    if isinstance(settings, Whitening):
        learned = whiten(source, target, metric, settings.dim, row)
        space, queries = read_space(target, metric, answers), read_queries(source, metric, answers)
        projection_ms = mean_ms(lambda query: learned.apply(queries[query : query + 1]), len(queries))
        note = f"PCA whitening to {settings.dim} dimensions, learned on the {learned.count} images of the gallery"
        return Made(
            space,
            projection_ms,
            {"note": note, "dim": settings.dim, "index_mb": round(exact.size(space.index) / 1e6, 3)},
        )
    files.replace_atomically(target, Path.mkdir)
    if isinstance(settings, Approximate):
        indexed = gallery.to_index(source, metric)
        built = approximate.build(settings, indexed, k, f"{paths.PARAMS}: refinements.{row}")
        facts = {
            "dim": indexed.dim,
            "index_mb": round(exact.size(built.index) / 1e6, 3),
            "search": built.facts,
        }
        return Made(read_space(source, metric, answers, built.index), 0, facts)
    return Made(
        read_space(source, metric, answers) if isinstance(settings, QueryExpansion | KReciprocal) else None,
        0,
        {},
    )


def check_depth(row: str, settings: Refinement, k: int, images: int) -> None:
    """UserError if a method looks further down a ranking than it goes."""
    wanted = {"n": settings.n} if isinstance(settings, QueryExpansion) else {}
    if isinstance(settings, KReciprocal):  # candidates by default as many as there are, up to 100
        wanted = {"k1": settings.k1} | (
            {"candidates": settings.candidates} if "candidates" in settings.model_fields_set else {}
        )
    for name, value in wanted.items():
        if value > k < images:
            raise UserError(
                f"{paths.PARAMS}: refinements.{row}.{name} is {value}, but rankings are {k} deep; set retrieve.depth to {value} or more"
            )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(machine.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    answers = relevance.load_relevance(params.relevance.exclude)
    k = answers.required_depth(params.retrieve.depth, *params.score.cutoffs)
    check_depth(row, settings, k, len(answers.gallery_ids))
    metric = metric_of(settings.second, params)
    space, to_space_ms, facts = make_space(row, settings, metric, answers, params.retrieve.depth)
    task = Task(
        read_found(settings.first, answers),
        read_found(settings.second, answers),
        space,
        answers.excluded(),
        k,
    )
    found = refinements.refine(settings, task)
    rankings.write_ranking(paths.ranking(row), answers.ranking(*found))
    if space is not None and isinstance(settings, Approximate):
        indexed = gallery.to_index(paths.embeddings(settings.second), metric)
        cutoffs = {*params.score.cutoffs, params.retrieve.depth}
        facts["ann_recall"] = approximate.recalls(
            found.positions, space.queries, task.excluded, indexed, cutoffs
        )
    seconds = time.perf_counter() - start
    costs = {
        **facts,
        "method": settings.method,
        "row": row,
        "fingerprint": embeddings.origin(paths.embeddings(settings.second)).fingerprint
        if space is not None
        else None,
        "seconds": round(seconds, 3),
        "query_ms": round(to_space_ms + query_ms(settings, task), 4),
        "k": k,
        "threads": machine.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    files.write_json(paths.costs("refine", row), costs)
    log.info(
        "%d queries, the %d nearest of %d images each", len(answers.query_ids), k, len(answers.gallery_ids)
    )


if __name__ == "__main__":
    cli.run(main)
