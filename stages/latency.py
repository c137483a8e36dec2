"""latency@row: how long a query takes from a photo's file to its answers, and how fast the row embeds.

A row is measured by itself, so that a changed row measures nothing else. How much other processes slowed it
down is measured with it, so that `compare` can put rows side by side that were measured at different times.
"""

from __future__ import annotations

import logging
import time

import faiss
import torch

from lineup import cli, machine, paths
from lineup.costs import latency
from lineup.costs.latency import Latency
from lineup.embedding import embedding_speed
from lineup.embedding.embedding_speed import Round
from lineup.serving import latency_figures, query_photos, query_times, ready_row
from lineup.serving.query_times import Pass, QueryTimer

log = logging.getLogger(__name__)

PHOTOS = 200
# All that is timed takes turns, this often, so that what else the machine does for a while counts less.
PASSES = 3
ROUNDS_PER_PASS = 2  # of embedding
MOST_SECONDS_PER_PASS = 5.0  # of queries, alone and together each


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("latency", argv, rows="all")
    faiss.omp_set_num_threads(1)
    threads, is_model = machine.threads(), row in params.models
    photos = query_photos.read(PHOTOS)
    start = time.perf_counter()
    opened = ready_row.open_row(row, params, threads)
    load_seconds = time.perf_counter() - start
    network = ready_row.network_of(opened)
    device = network.engine.device
    timers = [QueryTimer(opened, params.preprocess.shorter_side_px) for _ in range(threads)]
    first = query_times.first(timers[0], photos.contents, MOST_SECONDS_PER_PASS)
    embedder = (
        embedding_speed.batch_embedder(row, network, photos.prepared, params.embed) if is_model else None
    )
    alone: list[Pass] = []
    together: list[Pass] = []
    rounds: list[Round] = []
    for _ in range(PASSES):
        alone.append(query_times.run(timers[:1], photos.contents, MOST_SECONDS_PER_PASS))
        together.append(query_times.run(timers, photos.contents, MOST_SECONDS_PER_PASS))
        rounds += [embedder.round() for _ in range(ROUNDS_PER_PASS)] if embedder else []
    measured = Latency(
        row=row,
        network=embedding_speed.network_name(paths.model(row)) if is_model else None,
        engine=network.engine.described,
        precision=network.engine.precision,
        device=torch.cuda.get_device_name() if device.type == "cuda" else machine.cpu_name(),
        gpu=device.type == "cuda",
        threads=threads,
        gallery=len(opened.photos.ids),
        uploads=photos.uploads,
        load_seconds=round(load_seconds, 2),
        first=latency_figures.query(first),
        alone=latency_figures.queries(alone, 1),
        together=latency_figures.queries(together, threads),
        embedding=latency_figures.embedding(rounds) if is_model else None,
    )
    latency.write(measured)
    log.info(
        "%s: %.1f ms per query, p95 %.1f",
        row,
        measured.alone.p50.total,
        measured.alone.p95.total,
    )


if __name__ == "__main__":
    cli.run(main)
