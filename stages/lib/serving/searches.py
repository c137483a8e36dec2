"""Requests become searches: each gets its share of uploads and of the one thread that searches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import Request

from stages.lib import paths
from stages.lib.errors import nearest
from stages.lib.params import Params
from stages.lib.serving import answers, rooms
from stages.lib.serving.guard import Refusal
from stages.lib.serving.limits import Limits, Shares, address
from stages.lib.serving.uploads import Uploads


class Searches:
    def __init__(self, params: Params, opened: rooms.Rooms, limits: Limits) -> None:
        self._rows, self._opened = {*params.models, *params.refinements}, opened
        self._shares = Shares(limits.searches, limits.searches_of_client)
        self._uploads = Uploads(limits)
        self._thread = ThreadPoolExecutor(1, "rows")  # one search at a time: each uses all cores, and memory stays bounded

    @asynccontextmanager
    async def open(self, first: str) -> AsyncIterator[None]:
        """first: the row that is loaded at once, so that its first answer is as fast as the next."""
        self._thread.submit(answers.warm_up, self._opened, first)
        yield
        self._thread.shutdown(cancel_futures=True)

    async def by_question(self, request: Request, model: str, question: answers.Question, k: int) -> dict[str, Any]:
        """Raises Refusal, UserError, or ClientDisconnect; see `answers.answer`."""
        with self._share(request):
            return await self._answer(self._known(model), question, k)

    async def by_photo(self, request: Request, model: str, k: int) -> dict[str, Any]:
        """The body is the file; its content says what it is. Raises BadImage, too."""
        model = self._known(model)
        with self._share(request):
            async with self._uploads.body(request) as data:
                return await self._answer(model, answers.photo(bytes(data)), k)

    async def _answer(self, model: str, question: answers.Question, k: int) -> dict[str, Any]:
        work = asyncio.get_running_loop().run_in_executor(self._thread, lambda: answers.answer(self._opened.row(model), question, k))
        return await work

    def _known(self, model: str) -> str:
        if model not in self._rows:
            raise Refusal(404, f"{paths.PARAMS}: models.{model} is unknown{nearest(model, self._rows)}")
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
