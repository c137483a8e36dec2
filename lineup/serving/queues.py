"""Work that requests wait for, so that no client holds up the others for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from fastapi import Request
from starlette.requests import ClientDisconnect

from lineup.serving.limits import address

Result = TypeVar("Result")


class FairQueue:
    """Some threads, and for each client one piece of work at a time: nobody waits for more than one of each
    other client's.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, request: Request, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises.

        ClientDisconnect if the client leaves first; work that has not begun by then is dropped.
        """
        result = asyncio.ensure_future(self._in_turn(address(request), work))
        left = asyncio.ensure_future(_client_left(request))
        try:
            await asyncio.wait((result, left), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            result.cancel()
            left.cancel()

    def begin(self, work: Callable[[], object]) -> None:
        """The server's own, for which no request waits."""
        self._pool.submit(work)

    def close(self) -> None:
        """Waits for what has begun."""
        self._pool.shutdown(cancel_futures=True)

    async def _in_turn(self, client: str, work: Callable[[], Result]) -> Result:
        turn, loop = self._turns.setdefault(client, asyncio.Lock()), asyncio.get_running_loop()
        await turn.acquire()
        begun = self._pool.submit(work)

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(turn.release)

        begun.add_done_callback(release)  # not when the client leaves: its work goes on
        return await asyncio.wrap_future(begun)


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
