"""How much of the page's server its clients may use: together, and each one alone. A client is an address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True)
class Limits:
    """What all clients may have at once, and one alone (`_of_client`); how long the server waits for them;
    what one picture may take.

    header_seconds: for a whole header; silent_seconds: without a byte of an upload; upload_seconds: for a
    whole one; answer_seconds: for a client to read its answer. decodings: at once; decoding_bytes: of memory,
    beside what the worker needs for itself.
    """

    connections: int = 128  # macOS lets a process have 256 files open
    connections_of_client: int = 48
    searches: int = 64
    searches_of_client: int = 16
    picture_bytes: int = 50 * 2**20
    uploaded_bytes: int = 200 * 2**20
    uploaded_bytes_of_client: int = 100 * 2**20
    header_seconds: float = 10
    silent_seconds: float = 10
    upload_seconds: float = 120
    answer_seconds: float = 60
    decodings: int = 2
    decoding_seconds: float = 10
    decoding_pixels: int = 64_000_000  # cameras and phones: 12 to 61 million
    decoding_bytes: int = 2 * 2**30


class Shares:
    """What clients use together: `total` of it, and one client at most `of_client`. For one thread."""

    def __init__(self, total: int, of_client: int) -> None:
        self._total, self._of_client = total, of_client
        self._taken: Counter[str] = Counter()

    def take(self, client: str, amount: int = 1) -> bool:
        """Whether there is so much left; if there is, it is taken until `give`."""
        if self._taken.total() + amount > self._total or self._taken[client] + amount > self._of_client:
            return False
        self._taken[client] += amount
        return True

    def give(self, client: str, amount: int = 1) -> None:
        self._taken[client] -= amount
        if not self._taken[client]:
            del self._taken[client]


def address(request: Request) -> str:
    """By which its client is known."""
    return request.client.host if request.client else ""
