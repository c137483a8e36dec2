"""refine@row: a ranking made of what other rows computed; embeds nothing.

Also makes the row's folder of embeddings: with vectors only where the method makes new ones (whitening), else empty, so
that every row can be the `from` and `with` of another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from stages.lib import approximate_search, cli, gallery, machine, paths, refinements, relevance, search, tables
from stages.lib.errors import UserError
from stages.lib.params import Params
from stages.lib.refinement_params import Approximate, KReciprocal, QueryExpansion, Refinement, Whitening
from stages.lib.refinements import Found, Space, Task, whitening
from stages.lib.relevance import Relevance


def refine(settings: Refinement, task: Task, answers: Relevance) -> tables.Ranking:
    """The row's ranking; like that of a model without the query itself and its junk."""
    return tables.Ranking(answers.query_ids, answers.gallery_ids, *refinements.refine(settings, task))


def query_ms(settings: Refinement, task: Task, sample: int = 100) -> float:
    """Mean wall milliseconds that one query takes beyond what the rows it's made of take, over up to `sample` after a warm-up.

    A search is that of FAISS alone, as `retrieve` measures it.
    """
    method = refinements.method(settings)
    run = getattr(method, "queries", None) or method.refine
    picked = np.linspace(0, len(task.first.positions) - 1, min(sample, len(task.first.positions))).astype(int)
    tasks = [task.only(query) for query in picked]
    for one in tasks[:10]:
        run(settings, one)
    start = time.perf_counter()
    for one in tasks:
        run(settings, one)
    mean = (time.perf_counter() - start) * 1000 / len(tasks)
    if task.space is None or not hasattr(method, "queries"):
        return mean
    return mean + search.query_ms(task.space.index, method.queries(settings, task), task.k)


def metric_of(row: str, params: Params) -> search.Metric:
    """A whitening is searched as the model that it comes from."""
    while row in params.refinements:
        row = params.refinements[row].second
    return params.models[row].search.metric


def read_found(row: str, answers: Relevance) -> Found:
    ranking = tables.read_ranking(paths.ranking(row))
    return Found(relevance.gallery_positions(ranking, answers, str(paths.ranking(row))), ranking.scores)


def read_space(folder: Path, metric: search.Metric, answers: Relevance, index: faiss.Index | None = None) -> Space:
    """index: of the folder's gallery; default: an exact one."""
    embeddings = tables.read_embeddings(folder, "query")
    gallery.check_same_images(folder, answers, embeddings.ids)
    vectors = search.prepare(metric, embeddings.ids, embeddings.vectors, str(folder))
    return Space(metric, embeddings.ids, vectors, index or gallery.index(folder, metric))


def whiten(source: Path, target: Path, metric: search.Metric, dim: int, row: str) -> whitening.Projection:
    """Learns on the gallery in `source`, and writes all its vectors projected to `target`; reads them twice, as a stream."""

    def vectors(batch: pa.RecordBatch) -> np.ndarray:
        return search.prepare(metric, batch.column("image_id").to_pylist(), tables.vectors_of(batch.column("embedding")), str(source))

    learned = whitening.learn((vectors(batch) for batch in gallery.rows(source)), gallery.dim(source), dim)

    def projected() -> Iterator[pa.RecordBatch]:
        for batch in tables.read_shards(source, batch_rows=8_192):
            yield tables.embeddings_batch(batch, learned.apply(vectors(batch)))

    rows = tables.count_rows(source)
    metadata = {"model": row, "dim": str(dim)}
    tables.write_shards(target, tables.embeddings_schema(dim), projected(), rows, tables.VECTORS_PER_SHARD, metadata)
    return learned


def make_space(row: str, settings: Refinement, metric: search.Metric, answers: Relevance, k: int) -> tuple[Space | None, dict[str, Any]]:
    """What the method compares vectors in, and what it says of it for the costs; makes the row's folder of embeddings."""
    source, target = paths.embeddings(settings.second), paths.embeddings(row)
    if isinstance(settings, Whitening):
        learned = whiten(source, target, metric, settings.dim, row)
        space = read_space(target, metric, answers)
        note = f"PCA whitening to {settings.dim} dimensions, learned on the {learned.count} images of the gallery"
        return space, {"note": note, "dim": settings.dim, "index_mb": round(search.size(space.index) / 1e6, 3)}
    tables.replace_atomically(target, Path.mkdir)
    if isinstance(settings, Approximate):
        indexed = gallery.to_index(source, metric)
        built = approximate_search.build(settings, indexed, k, f"{paths.PARAMS}: refinements.{row}")
        facts = {"dim": indexed.dim, "index_mb": round(search.size(built.index) / 1e6, 3), "search": built.facts}
        return read_space(source, metric, answers, built.index), facts
    return (read_space(source, metric, answers) if isinstance(settings, QueryExpansion | KReciprocal) else None), {}


def check_depth(row: str, settings: Refinement, k: int, images: int) -> None:
    """UserError if a method looks further down a ranking than it goes."""
    wanted = {"n": settings.n} if isinstance(settings, QueryExpansion) else {}
    wanted = {"k1": settings.k1} if isinstance(settings, KReciprocal) else wanted
    for name, value in wanted.items():
        if value > k < images:
            raise UserError(
                f"{paths.PARAMS}: refinements.{row}.{name} is {value}, but rankings are {k} deep; set retrieve.k to {value} or more"
            )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("refine", argv, rows="refinements")
    faiss.omp_set_num_threads(cli.threads())
    start = time.perf_counter()
    settings = params.refinements[row]
    manifest = tables.read_table(paths.manifest("test"), columns=["image_id", "split", "label"])
    answers = relevance.read(manifest, tables.read_table(paths.QRELS))
    k = answers.depth(params.retrieve.k, *params.score.k)
    check_depth(row, settings, k, len(answers.gallery_ids))
    metric = metric_of(settings.second, params)
    space, facts = make_space(row, settings, metric, answers, params.retrieve.k)
    task = Task(read_found(settings.first, answers), read_found(settings.second, answers), space, answers.excluded(), k)
    ranking = refine(settings, task, answers)
    tables.write_ranking(paths.ranking(row), ranking)
    if space is not None and isinstance(settings, Approximate):
        indexed = gallery.to_index(paths.embeddings(settings.second), metric)
        cutoffs = {*params.score.k, params.retrieve.k}
        facts["ann_recall"] = approximate_search.recalls(ranking.positions, space.queries, task.excluded, indexed, cutoffs)
    seconds = time.perf_counter() - start
    costs = {
        **facts,
        "method": settings.method,
        "seconds": round(seconds, 3),
        "query_ms": round(query_ms(settings, task), 4),
        "k": k,
        "threads": cli.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    tables.write_json(paths.costs("refine", row), costs)
    cli.log.info("%d queries, the %d nearest of %d images each", len(answers.query_ids), k, len(answers.gallery_ids))


if __name__ == "__main__":
    cli.run(main)
