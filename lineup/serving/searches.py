"""Searches for requests: each gets its share of uploads, of decoders and of the one searching thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import Request

from lineup import paths
from lineup.errors import suggest
from lineup.evaluation.thresholds import Threshold
from lineup.serving import api
from lineup.serving.api import SearchResponse
from lineup.serving.decoder import Decoders
from lineup.serving.limits import Limits
from lineup.serving.queues import FairQueue
from lineup.serving.row_pool import RowPool
from lineup.serving.uploads import Uploads
from lineup.settings.params import Params
from lineup.web.limits import Shares, address
from lineup.web.security import Refusal


class Searches:
    """Runs the searches of all clients, within the page's limits."""

    def __init__(
        self, params: Params, pool: RowPool, limits: Limits, threshold: Threshold | None = None
    ) -> None:
        self._threshold = threshold
        self._rows, self._pool = {*params.models, *params.refinements}, pool
        self._shares = Shares(limits.searches, limits.searches_of_client)
        self._uploads = Uploads(limits)
        self._decoders = Decoders(limits, params.preprocess.shorter_side_px)
        self._decoding = FairQueue(limits.decodings, "decoding")
        # One thread: a search uses all cores, the pool is for one thread, and memory stays bounded.
        self._searching = FairQueue(1, "searching")

    @asynccontextmanager
    async def open(self, first: str) -> AsyncIterator[None]:
        """Loads the row `first` at once, so that the first search of it is as fast as the next."""
        self._searching.begin(lambda: api.warm_up(self._pool, first))
        try:
            yield
        finally:
            self._decoders.close()
            self._decoding.close()
            self._searching.close()

    async def by_query(self, request: Request, row: str, resolve: api.ResolveQuery, k: int) -> SearchResponse:
        """The response of `api.search`. Raises Refusal, UserError or ClientDisconnect."""
        with self._share(request):
            return await self._search(request, self._known(row), resolve, k)

    async def by_photo(self, request: Request, row: str, k: int) -> SearchResponse:
        """As `by_query`, with the photo whose file is the request's body. Raises BadImage, too."""
        row = self._known(row)
        with self._share(request):
            async with self._uploads.body(request) as data:
                photo = await self._decoding.run(request, lambda: self._decoders.prepare(data))
            return await self._search(request, row, api.photo_query(photo), k)

    async def _search(self, request: Request, row: str, resolve: api.ResolveQuery, k: int) -> SearchResponse:
        return await self._searching.run(
            request, lambda: api.search(self._pool.row(row), resolve, k, self._threshold)
        )

    def _known(self, row: str) -> str:
        if row not in self._rows:
            raise Refusal(404, f"{paths.PARAMS}: row {row!r} is unknown{suggest(row, self._rows)}")
        return row

    @contextmanager
    def _share(self, request: Request) -> Iterator[None]:
        client = address(request)
        if not self._shares.take(client):
            raise Refusal(503, "too many searches are under way; try again in a moment")
        try:
            yield
        finally:
            self._shares.give(client)
