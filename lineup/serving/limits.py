"""How much of the search page's server its clients may use, together and each alone."""

from __future__ import annotations

from dataclasses import dataclass

from lineup.web.limits import ConnectionLimits


@dataclass(frozen=True)
class Limits(ConnectionLimits):
    """What all clients may use at once, and one of them (`_of_client`), besides connections.

    decodings: worker processes. decoding_seconds, decoding_pixels: of one picture. decoding_bytes: memory for
    one picture, besides what the worker itself needs.
    """

    searches: int = 64
    searches_of_client: int = 16
    picture_bytes: int = 50 * 2**20
    uploaded_bytes: int = 200 * 2**20
    uploaded_bytes_of_client: int = 100 * 2**20
    decodings: int = 2
    decoding_seconds: float = 10
    decoding_pixels: int = 64_000_000  # cameras and phones: 12 to 61 million
    decoding_bytes: int = 2 * 2**30
