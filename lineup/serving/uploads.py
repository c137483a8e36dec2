"""Receives the pictures that clients send, whose size is limited, of each and of all together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from lineup.serving.limits import Limits
from lineup.web.limits import Shares, address
from lineup.web.security import Refusal


class Uploads:
    """Receives pictures, within limits for each client and for all."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.picture_bytes
        self._shares = Shares(limits.uploaded_bytes, limits.uploaded_bytes_of_client)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytearray]:
        """A request's body, which counts as the client's until the context ends.

        The body of a refused request is not read here. uvicorn reads and discards it, since a browser shows a
        response only after it has sent everything.

        Raises:
            Refusal: the picture is too large, or too many are being sent.
            ClientDisconnect: the client left before all had arrived.
        """
        too_large = Refusal(
            413, f"this picture has more than {self._limit // 2**20} MB; choose a smaller one"
        )
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            raise too_large
        client, data = address(request), bytearray()
        try:
            async for piece in request.stream():
                if len(data) + len(piece) > self._limit:
                    raise too_large
                if not self._shares.take(client, len(piece)):
                    raise Refusal(503, "too many pictures are being sent; try again in a moment")
                data += piece
            yield data
        finally:
            self._shares.give(client, len(data))
