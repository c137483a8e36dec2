"""The pictures that clients send: of a limited size, alone and together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from lineup.serving.limits import Limits, Shares, address
from lineup.serving.security import Refusal


class Uploads:
    def __init__(self, limits: Limits) -> None:
        self._limit = limits.picture_bytes
        self._shares = Shares(limits.uploaded_bytes, limits.uploaded_bytes_of_client)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytearray]:
        """A request's body. Raises Refusal, and ClientDisconnect if it doesn't arrive.

        What is refused is not read here; uvicorn reads on and throws it away, as a browser shows an answer
        only after it has sent all.
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
