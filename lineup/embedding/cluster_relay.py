"""Embeds on a Ray cluster from a machine outside it, which is connected by Ray's client (`ray://`).

Ray Data runs only on a node of the cluster. So an actor there, the relay, runs it: this machine sends batches
of photos to the relay, and receives their vectors from it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from lineup.embedding import cluster_stream
from lineup.embedding.cluster_stream import Crew
from lineup.embedding.cluster_worker import Work
from lineup.errors import reason

# This machine sends several batches at once, so that it doesn't wait for the network between two of them.
_SENDS_AT_A_TIME = 4
# Besides these calls, the relay answers one that waits for vectors, and one that waits for photos.
_CALLS_AT_A_TIME = _SENDS_AT_A_TIME + 2
# The most batches in each of the relay's queues.
_WAITING_BATCHES = 16


class RelayFault(Exception):
    """The relay's computation failed; the message says why."""


class Relay:
    """An actor on the cluster, between this machine and the workers; several threads call it at once."""

    def __init__(self, work: Work, crew: Crew) -> None:
        import ray

        self._photos: queue.Queue[pa.Table | None] = queue.Queue(_WAITING_BATCHES)
        self._vectors: queue.Queue[pa.Table | str] = queue.Queue(_WAITING_BATCHES)
        relay = ray.get_runtime_context().current_actor
        threading.Thread(target=self._run, args=(ray, work, crew, relay), daemon=True).start()

    def send(self, photos: pa.Table | None) -> None:
        """Queues a batch, one row of cluster_worker.PHOTOS, once the queue has room; None ends the stream."""
        self._photos.put(photos)

    def photos(self) -> pa.Table | None:
        """The next batch that was sent; None after the last."""
        return self._photos.get()

    def vectors(self) -> pa.Table | str:
        """The next table of cluster_worker.VECTORS; after the last, the fault, empty if there was none."""
        return self._vectors.get()

    def _run(self, ray: Any, work: Work, crew: Crew, relay: Any) -> None:
        fault = ""
        try:
            for rows in cluster_stream.vectors(ray, work, crew, read_relayed, {"relay": relay}):
                self._vectors.put(rows)
        except Exception as error:
            fault = reason(getattr(error, "cause", None) or error) or type(error).__name__
        self._vectors.put(fault)


def read_relayed(_: pa.Table, relay: Any) -> Iterator[pa.Table]:
    """The batches that were sent to the relay, as `cluster_stream.vectors` reads them.

    The first argument is an empty table, with which Ray Data calls every function that reads.
    """
    import ray

    while (photos := cast(Any, ray.get(relay.photos.remote()))) is not None:
        yield photos


def vectors(ray: Any, work: Work, crew: Crew, batches: Iterator[pa.Table]) -> Generator[pa.Table]:
    """Tables of cluster_worker.VECTORS, in any order.

    Args:
        batches: read on this machine, each one row of cluster_worker.PHOTOS.
    Raises:
        RelayFault: the relay's computation failed.
    """
    relay = ray.remote(Relay).options(num_cpus=0, max_concurrency=_CALLS_AT_A_TIME).remote(work, crew)
    try:
        sends = [relay.send.remote(photos) for photos in islice(batches, _SENDS_AT_A_TIME)]
        ended, received = False, relay.vectors.remote()
        while True:
            if not sends and not ended:
                sends, ended = [relay.send.remote(None)], True
            [ready], _ = ray.wait([*sends, received], num_returns=1)
            rows = ray.get(ready)
            if ready != received:
                sends.remove(ready)
                sends += [relay.send.remote(photos) for photos in islice(batches, 1)]
            elif isinstance(rows, str):
                if rows:
                    raise RelayFault(rows)
                return
            else:
                received = relay.vectors.remote()
                yield rows
    finally:
        ray.kill(relay)
