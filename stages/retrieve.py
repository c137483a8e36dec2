"""retrieve@model: the nearest gallery images of each query."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.lib import cli, machine, paths, relevance, search, tables
from stages.lib.errors import UserError
from stages.lib.params import Params
from stages.lib.relevance import Relevance


def retrieve(queries: npt.NDArray[np.float32], index: faiss.IndexFlat, answers: Relevance, k: int) -> tables.Ranking:
    """The k nearest gallery images of each query, without itself and its junk; queries: float32 [Q, D], prepared."""
    positions, scores = search.nearest(index, queries, k, answers.excluded())
    return tables.Ranking(answers.query_ids, answers.gallery_ids, positions, scores)


def depth(answers: Relevance, params: Params) -> int:
    """Deep enough for every metric asked for: `map_at_r` needs as many ranks as a query has right answers."""
    return min(max(params.retrieve.k, *params.score.k, int(answers.total().max())), len(answers.gallery_ids))


def check_same_images(model: str, answers: Relevance, queries: npt.NDArray[np.str_]) -> None:
    """UserError unless the embeddings are of the manifest's images."""
    folder = paths.embeddings(model)
    gallery: list[str] = []
    for batch in tables.read_shards(folder, ["image_id", "split"], 65_536):
        gallery += batch.filter(pc.field("split") == "gallery").column("image_id").to_pylist() if batch.num_rows else []
    if not np.array_equal(queries, answers.query_ids) or not np.array_equal(np.array(gallery, np.str_), answers.gallery_ids):
        raise UserError(f"{folder}: holds other images than {paths.manifest('test')}; run `dvc repro` to embed them again")


def read_relevance() -> Relevance:
    manifest: pa.Table = tables.read_table(paths.manifest("test"), columns=["image_id", "split", "label"])
    return relevance.read(manifest, tables.read_table(paths.QRELS))


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("retrieve", argv)
    faiss.omp_set_num_threads(cli.threads())
    metric = params.models[model].search.metric
    answers = read_relevance()
    embeddings = tables.read_embeddings(paths.embeddings(model), "query")
    check_same_images(model, answers, embeddings.ids)
    index = search.load(paths.index(model), metric, len(answers.gallery_ids))
    queries = search.prepare(metric, embeddings.ids, embeddings.vectors, str(paths.embeddings(model)))
    k = depth(answers, params)
    tables.write_ranking(paths.ranking(model), retrieve(queries, index, answers, k))
    costs = {
        "query_ms": round(search.query_ms(index, queries, k), 4),
        "k": k,
        "threads": cli.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
    tables.write_json(paths.costs("retrieve", model), costs)
    cli.log.info("%d queries, the %d nearest of %d images each", len(queries), k, index.ntotal)


if __name__ == "__main__":
    cli.run(main)
