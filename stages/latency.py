"""latency@row: how long a query takes from a photo's file to its answers, and how fast the row embeds.

A row is measured by itself, so that a changed row measures nothing else. How much other processes slowed it
down is measured with it, so that `compare` can put rows side by side that were measured at different times.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import pyarrow.compute as pc
import torch

from lineup import cli, machine, paths
from lineup.costs import latency
from lineup.costs.latency import Embedding, Latency, Queries, Times
from lineup.embedding import quantised_network
from lineup.embedding.embedding_speed import BatchEmbedder, Round
from lineup.embedding.inference import EncodedImage
from lineup.encoders import adapter, model_folder
from lineup.encoders.encoder_config import EncoderConfig, read_config
from lineup.engines import conversion, quantisation
from lineup.engines.engine import Network
from lineup.errors import UserError
from lineup.photos import prepared_images
from lineup.serving import gallery_photos, query_times, row_search
from lineup.serving.query_times import Pass, QueryTime, QueryTimer
from lineup.serving.row_search import ModelSearch, Row
from lineup.settings.params import Params
from lineup.storage import parquet

log = logging.getLogger(__name__)

PHOTOS = 200
# All that is timed takes turns, this often, so that what else the machine does for a while counts less.
PASSES = 3
ROUNDS_PER_PASS = 2  # of embedding
MOST_SECONDS_PER_PASS = 5.0  # of queries, alone and together each


@dataclass(frozen=True)
class QueryPhotos:
    """Some queries, spread evenly over the ids, whose order is arbitrary.

    contents: their files as their owner has them, or as prepared where those are not here; uploads: how many
    are files of their owner. prepared: all of them as prepared.
    """

    contents: list[bytes]
    uploads: int
    prepared: list[EncodedImage]


def query_photos() -> QueryPhotos:
    """Reads the sample. UserError if there is no query."""
    manifest = parquet.read_table(paths.manifest("test"), columns=["image_id", "split", "paths"])
    queries = manifest.filter(pc.field("split") == "query")
    if not queries.num_rows:
        raise UserError(f"{paths.manifest('test')}: has no query; put photos into data/raw/test/query")
    picked = np.unique(np.linspace(0, queries.num_rows - 1, min(PHOTOS, queries.num_rows)).astype(int))
    contents: list[bytes] = []
    prepared: list[EncodedImage] = []
    uploads = 0
    for line in queries.take(picked).to_pylist():
        image = prepared_images.read(paths.images("test"), line["image_id"])
        assert image is not None, "preprocess writes manifest and images together"
        prepared.append((line["image_id"], image))
        upload = owners_file(line["image_id"], line["paths"])
        uploads += upload is not None
        contents.append(upload or image)
    return QueryPhotos(contents, uploads, prepared)


def owners_file(image_id: str, own_paths: Sequence[str]) -> bytes | None:
    """A photo's file in data/raw; None where that is not here, as in a clone, or has changed since."""
    for path in own_paths:
        try:
            content = (paths.RAW / path).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == image_id:
            return content
    return None


def open_row(name: str, params: Params, threads: int) -> Row:
    """The row with its networks loaded; a model that it uses twice is loaded once."""
    photos = gallery_photos.read(params.relevance.exclude)

    @functools.cache
    def opened(each: str) -> Row:
        return row_search.open_row(each, params, photos, opened, threads)

    row = opened(name)
    for model in row_search.models_of(name, params):
        search = opened(model).search
        assert isinstance(search, ModelSearch)
        search.encoder.network()
    return row


def queries(passes: Sequence[Pass], threads: int) -> Queries:
    """What is written of the passes of so many threads; a photo's time is that of its fastest pass."""
    seconds = np.array([[*time, time.total] for time in fastest(passes)])
    return Queries(
        queries=len(seconds),
        p50=as_times(np.percentile(seconds, 50, axis=0).tolist()),
        p95=as_times(np.percentile(seconds, 95, axis=0).tolist()),
        per_second=tuple(round(threads / mean_seconds(each), 2) for each in passes),
        slowdown=tuple(round(each.slowdown, 3) for each in passes),
    )


def fastest(passes: Sequence[Pass]) -> list[QueryTime]:
    """Of each photo that was reached, the pass with the smallest total."""
    numbers = sorted({number for each in passes for number in each.times})
    return [
        min((each.times[number] for each in passes if number in each.times), key=lambda time: time.total)
        for number in numbers
    ]


def mean_seconds(one: Pass) -> float:
    """Of a query."""
    return float(np.mean([time.total for time in one.times.values()]))


def as_times(seconds: Sequence[float]) -> Times:
    """Four parts and the total, in milliseconds."""
    names = (*latency.PARTS, "total")
    return Times(**{name: milliseconds(value) for name, value in zip(names, seconds, strict=True)})


def milliseconds(seconds: float) -> float:
    """Rounded to microseconds."""
    return round(1000 * seconds, 3)


def batch_embedder(
    model: str, queries_network: Network, photos: QueryPhotos, params: Params
) -> BatchEmbedder:
    """Embeds the sample's prepared images as `embed` does, in batches of its shape."""
    engine, network = queries_network.engine, queries_network
    encoder = adapter.load(model_folder.resolve(paths.model(model)))
    if engine.precision == quantisation.INT8:
        network = quantised_network.load(engine, paths.quantised(model), encoder, None, machine.threads())
    elif engine.device.type != "cpu" or engine.library.cpu_shape(encoder.module) != network.shape:
        network = conversion.prepare(engine, encoder, (), params.embed.batch_size, machine.threads())
    return BatchEmbedder(network, photos.prepared, params.embed.batch_size, machine.threads())


def embedding(rounds: Sequence[Round]) -> Embedding:
    """What is written of the rounds in which images were embedded."""
    return Embedding(
        images_per_second=tuple(round(each.images_per_second, 2) for each in rounds),
        slowdown=tuple(round(each.slowdown, 3) for each in rounds),
    )


def network_name(config: EncoderConfig) -> str:
    """What decides a network's speed besides engine, precision and machine; equal for a network's rows."""
    pooling = f" {config.pooling}" if config.pooling else ""
    return f"{config.library} {config.name}{pooling}, {config.resize_px}/{config.image_size} px, {config.dim}"


def first_query(timer: QueryTimer, photos: Sequence[bytes]) -> QueryTime:
    """The time of the first photo that can be decoded here. UserError if there is none."""
    for photo in photos:
        if times := query_times.run([timer], [photo], MOST_SECONDS_PER_PASS).times:
            return times[0]
    raise UserError(f"{paths.RAW}: no query can be decoded here; run `dvc repro -f preprocess`")


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("latency", argv, rows="all")
    faiss.omp_set_num_threads(1)
    threads, is_model = machine.threads(), row in params.models
    photos = query_photos()
    start = time.perf_counter()
    opened = open_row(row, params, threads)
    load_seconds = time.perf_counter() - start
    network = query_network_of(opened)
    device = network.engine.device
    timers = [QueryTimer(opened, params.preprocess.shorter_side_px) for _ in range(threads)]
    first = first_query(timers[0], photos.contents)
    embedder = batch_embedder(row, network, photos, params) if is_model else None
    alone: list[Pass] = []
    together: list[Pass] = []
    rounds: list[Round] = []
    for _ in range(PASSES):
        alone.append(query_times.run(timers[:1], photos.contents, MOST_SECONDS_PER_PASS))
        together.append(query_times.run(timers, photos.contents, MOST_SECONDS_PER_PASS))
        rounds += [embedder.round() for _ in range(ROUNDS_PER_PASS)] if embedder else []
    measured = Latency(
        row=row,
        network=network_name(read_config(model_folder.resolve(paths.model(row)))) if is_model else None,
        engine=network.engine.described,
        precision=network.engine.precision,
        device=torch.cuda.get_device_name() if device.type == "cuda" else machine.cpu_name(),
        gpu=device.type == "cuda",
        threads=threads,
        gallery=len(opened.photos.ids),
        uploads=photos.uploads,
        load_seconds=round(load_seconds, 2),
        first=as_times([*first, first.total]),
        alone=queries(alone, 1),
        together=queries(together, threads),
        embedding=embedding(rounds) if is_model else None,
    )
    latency.write(measured)
    log.info(
        "%s: %.1f ms per query, p95 %.1f",
        row,
        measured.alone.p50.total,
        measured.alone.p95.total,
    )


def query_network_of(row: Row) -> Network:
    """The network of the row, or of the first row that a refinement is made of."""
    search = row.search
    while not isinstance(search, ModelSearch):
        search = search.first
    return search.encoder.network()


if __name__ == "__main__":
    cli.run(main)
