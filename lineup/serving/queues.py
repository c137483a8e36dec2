"""A queue for the work of requests in which no client holds up the others for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from fastapi import Request
from starlette.requests import ClientDisconnect

from lineup.web.limits import address

Result = TypeVar("Result")


class FairQueue:
    """A pool of threads that runs at most one task of each client at a time.

    A task waits for at most one task of each other client.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._client_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, request: Request, work: Callable[[], Result]) -> Result:
        """Runs the work in a thread; returns or raises what it does.

        Raises:
            ClientDisconnect: the client left first. Work that has not begun by then is dropped.
        """
        result = asyncio.ensure_future(self._after_own_work(address(request), work))
        disconnect = asyncio.ensure_future(_client_left(request))
        try:
            await asyncio.wait((result, disconnect), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            result.cancel()
            disconnect.cancel()

    def begin(self, work: Callable[[], object]) -> None:
        """Begins work of the server itself, for which no request waits."""
        self._pool.submit(work)

    def close(self) -> None:
        """Drops the work that waits, and waits for the work that has begun."""
        self._pool.shutdown(cancel_futures=True)

    async def _after_own_work(self, client: str, work: Callable[[], Result]) -> Result:
        lock, loop = self._client_locks.setdefault(client, asyncio.Lock()), asyncio.get_running_loop()
        await lock.acquire()
        begun = self._pool.submit(work)

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(lock.release)

        # Not released when the client leaves: work that has begun goes on.
        begun.add_done_callback(release)
        return await asyncio.wrap_future(begun)


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
