"""How long queries take, by part, as `lineup search` and `lineup serve` answer them."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from lineup import machine, paths
from lineup.engines.engine import Forward, Network
from lineup.errors import UserError
from lineup.photos import image_opening, image_preparation
from lineup.search.hits import Hits
from lineup.search.vectors import Positions
from lineup.serving.query_encoder import QueryEncoder, Vectors
from lineup.serving.row_search import EmbedQuery, ModelSearch, RefinedSearch, Row

# How many answers a query asks for, as `lineup search` does by default.
ANSWERS = 10
FEWEST_QUERIES = 20


class QueryTime(NamedTuple):
    """Seconds of one query.

    decode: from a photo's file to the pixels that the network gets; embed: the network; search: the nearest
    images by each model; refine: all that a refinement does besides.
    """

    decode: float
    embed: float
    search: float
    refine: float

    @property
    def total(self) -> float:
        """All four."""
        return sum(self)


class Pass(NamedTuple):
    """One pass over some photos.

    times: by the photo's number, of those that were reached; slowdown: see `machine.Load`.
    """

    times: dict[int, QueryTime]
    slowdown: float


@dataclass
class _Watch:
    """Seconds of the query under way, of one thread."""

    embedding: float = 0.0  # with the decoding of the prepared image
    network: float = 0.0
    search: float = 0.0


@dataclass(frozen=True, eq=False)
class _WatchedSearch(ModelSearch):
    """The search of a model, which adds its time to a watch."""

    watch: _Watch = field(default_factory=_Watch)

    def hits(self, embed: EmbedQuery, k: int, excluded: Positions) -> Hits:
        embed(self.encoder)  # which remembers the vector, so that the search embeds nothing
        start = time.perf_counter()
        nearest = super().hits(embed, k, excluded)
        self.watch.search += time.perf_counter() - start
        return nearest


class QueryTimer:
    """Times the queries of one row in one thread."""

    def __init__(self, row: Row, shorter_side_px: int) -> None:
        self._watch, self._shorter_side_px = _Watch(), shorter_side_px
        self._row = replace(row, search=_watched(row.search, self._watch))
        # What a row with an index of its own does is a search, and no refinement of one.
        own_index = isinstance(row.search, RefinedSearch) and row.search.method.settings.builds_index
        self._refined = isinstance(row.search, RefinedSearch) and not own_index

    def time(self, photo: bytes) -> QueryTime:
        """Searches with a photo's file. Raises BadImage."""
        watch = self._watch
        watch.embedding = watch.network = watch.search = 0.0
        start = time.perf_counter()
        prepared = image_preparation.prepare(photo, self._shorter_side_px).replacement or photo
        image_id = hashlib.sha256(photo).hexdigest()
        decoded = time.perf_counter()

        def embed(encoder: QueryEncoder) -> Vectors:
            began = time.perf_counter()
            vector = encoder.embed_prepared(image_id, prepared)
            watch.embedding += time.perf_counter() - began
            return vector

        self._row.nearest(embed, ANSWERS)
        end = time.perf_counter()
        rest = end - decoded - watch.embedding - watch.search
        decode = decoded - start + watch.embedding - watch.network
        if self._refined:
            return QueryTime(decode, watch.network, watch.search, rest)
        return QueryTime(decode, watch.network, watch.search + rest, 0.0)


def _watched(search: ModelSearch | RefinedSearch, watch: _Watch) -> ModelSearch | RefinedSearch:
    """The same search, whose models add their times to a watch. A row that is used twice stays one object."""

    @functools.cache
    def copied(each: ModelSearch | RefinedSearch) -> ModelSearch | RefinedSearch:
        if isinstance(each, RefinedSearch):
            return replace(each, first=copied(each.first), second=copied(each.second))
        network = functools.cache(lambda: _watched_network(each.encoder.network(), watch))
        return _WatchedSearch(replace(each.encoder, network=network), watch)

    return copied(search)


def _watched_network(network: Network, watch: _Watch) -> Network:
    return replace(network, forward=_watched_forward(network.forward, watch))


def _watched_forward(forward: Forward, watch: _Watch) -> Forward:
    def timed(pixels: torch.Tensor) -> Vectors:
        start = time.perf_counter()
        vectors = forward(pixels)
        watch.network += time.perf_counter() - start
        return vectors

    return timed


def run(timers: Sequence[QueryTimer], photos: Sequence[bytes], most_seconds: float) -> Pass:
    """Searches with all photos, each timer in a thread of its own, and each photo by one of them.

    A photo that can't be decoded is left out.

    Args:
        most_seconds: after which no further query begins, once there are FEWEST_QUERIES.
    """
    waiting, meter = iter(enumerate(photos)), machine.LoadMeter()
    end = time.perf_counter() + most_seconds
    times: dict[int, QueryTime] = {}

    def over() -> bool:
        return len(times) >= FEWEST_QUERIES and time.perf_counter() > end

    def work(timer: QueryTimer) -> None:
        for number, photo in _until(waiting, over):
            with suppress(image_opening.BadImage):
                times[number] = timer.time(photo)

    with ThreadPoolExecutor(len(timers), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for finished in [pool.submit(work, timer) for timer in timers]:
            finished.result()
    return Pass(times, meter.load().slowdown)


def first(timer: QueryTimer, photos: Sequence[bytes], most_seconds: float) -> QueryTime:
    """The time of the first photo that can be decoded here. UserError if there is none.

    Args:
        most_seconds: as `run` takes them.
    """
    for photo in photos:
        if times := run([timer], [photo], most_seconds).times:
            return times[0]
    raise UserError(f"{paths.RAW}: no query can be decoded here; run `dvc repro -f preprocess`")


def _until(items: Iterator[tuple[int, bytes]], over: Callable[[], bool]) -> Iterator[tuple[int, bytes]]:
    """Items that several threads share, until they end or it is over."""
    while not over() and (item := next(items, None)) is not None:
        yield item
