"""Requests become searches: each gets its share of uploads, of decoders and of the one thread that searches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import Request

from lineup import paths
from lineup.errors import suggest
from lineup.serving import api, row_pool
from lineup.serving.decoder import Decoders
from lineup.serving.limits import Limits, Shares, address
from lineup.serving.queues import FairQueue
from lineup.serving.security import Refusal
from lineup.serving.uploads import Uploads
from lineup.settings.params import Params


class Searches:
    def __init__(self, params: Params, opened: row_pool.Rooms, limits: Limits) -> None:
        self._rows, self._opened = {*params.models, *params.refinements}, opened
        self._shares = Shares(limits.searches, limits.searches_of_client)
        self._uploads = Uploads(limits)
        self._decoders = Decoders(limits, params.preprocess.shorter_side_px)
        self._decoding = FairQueue(limits.decodings, "decoding")
        self._searching = FairQueue(
            1, "searching"
        )  # each uses all cores, rooms are for one thread, and memory stays bounded

    @asynccontextmanager
    async def open(self, first: str) -> AsyncIterator[None]:
        """first: the row that is loaded at once, so that its first answer is as fast as the next."""
        self._searching.begin(lambda: api.warm_up(self._opened, first))
        try:
            yield
        finally:
            self._decoders.close()
            self._decoding.close()
            self._searching.close()

    async def by_question(
        self, request: Request, model: str, question: api.Question, k: int
    ) -> dict[str, Any]:
        """Raises Refusal, UserError, or ClientDisconnect; see `answers.answer`."""
        with self._share(request):
            return await self._answer(request, self._known(model), question, k)

    async def by_photo(self, request: Request, model: str, k: int) -> dict[str, Any]:
        """The body is the file; its content says what it is. Raises BadImage, too."""
        model = self._known(model)
        with self._share(request):
            async with self._uploads.body(request) as data:
                photo = await self._decoding.run(request, lambda: self._decoders.prepare(data))
            return await self._answer(request, model, api.photo(photo), k)

    async def _answer(self, request: Request, model: str, question: api.Question, k: int) -> dict[str, Any]:
        return await self._searching.run(request, lambda: api.answer(self._opened.row(model), question, k))

    def _known(self, model: str) -> str:
        if model not in self._rows:
            raise Refusal(404, f"{paths.PARAMS}: models.{model} is unknown{suggest(model, self._rows)}")
        return model

    @contextmanager
    def _share(self, request: Request) -> Iterator[None]:
        client = address(request)
        if not self._shares.take(client):
            raise Refusal(503, "too many searches are under way; try again in a moment")
        try:
            yield
        finally:
            self._shares.give(client)
