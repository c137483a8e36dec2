"""How long a server waits for its clients, and how much one of them may use. A client is an IP address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections all clients may hold at once, and one of them (`_of_client`), and for how long.

    header_seconds: until a request's header is complete. silent_seconds: without a byte of an upload.
    upload_seconds: until an upload is complete. response_seconds: until a client has read its response.
    """

    # macOS lets a process have 256 files open.
    connections: int = 128
    connections_of_client: int = 48
    header_seconds: float = 10
    silent_seconds: float = 10
    upload_seconds: float = 120
    response_seconds: float = 60


class Shares:
    """An amount that clients share: `total` for all, and at most `of_client` for one. Not thread-safe."""

    def __init__(self, total: int, of_client: int) -> None:
        self._total, self._of_client = total, of_client
        self._taken: Counter[str] = Counter()

    def take(self, client: str, amount: int = 1) -> bool:
        """Takes the amount until `give`, if so much is left; returns whether it is."""
        if self._taken.total() + amount > self._total or self._taken[client] + amount > self._of_client:
            return False
        self._taken[client] += amount
        return True

    def give(self, client: str, amount: int = 1) -> None:
        """Gives back what `take` took."""
        self._taken[client] -= amount
        if not self._taken[client]:
            del self._taken[client]


def address(request: Request) -> str:
    """The IP address of the request's client."""
    return request.client.host if request.client else ""
