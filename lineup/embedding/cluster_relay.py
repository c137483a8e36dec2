"""The way to a cluster that Ray's client, `ray://`, leads to from a machine that is none of its nodes.

Ray Data runs on the cluster alone. So an actor there runs it, and photos and vectors pass through that actor,
some batches at a time.
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

# Calls under way from this machine, so that it doesn't wait for the network between two batches.
_SENDS_AT_A_TIME = 4
# The others: one waits for vectors, and one for photos.
_CALLS_AT_A_TIME = _SENDS_AT_A_TIME + 2
_WAITING_BATCHES = 16


class RelayFault(Exception):
    """Why the actor stopped."""


class Relay:
    """Runs on the cluster, between this machine and the workers; several threads call it at once."""

    def __init__(self, work: Work, crew: Crew) -> None:
        import ray

        self._photos: queue.Queue[pa.Table | None] = queue.Queue(_WAITING_BATCHES)
        self._vectors: queue.Queue[pa.Table | str] = queue.Queue(_WAITING_BATCHES)
        relay = ray.get_runtime_context().current_actor
        threading.Thread(target=self._run, args=(ray, work, crew, relay), daemon=True).start()

    def send(self, photos: pa.Table | None) -> None:
        """Takes a row of cluster_worker.PHOTOS, as soon as there is room for it; None is the end."""
        self._photos.put(photos)

    def photos(self) -> pa.Table | None:
        """The next row that `send` took."""
        return self._photos.get()

    def vectors(self) -> pa.Table | str:
        """The next table of cluster_worker.VECTORS; in the end a fault, which is empty if there was none."""
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
    """The rows of cluster_worker.PHOTOS that reach the relay."""
    import ray

    while (photos := cast(Any, ray.get(relay.photos.remote()))) is not None:
        yield photos


def vectors(ray: Any, work: Work, crew: Crew, batches: Iterator[pa.Table]) -> Generator[pa.Table]:
    """Tables of cluster_worker.VECTORS, in any order.

    Args:
        batches: rows of cluster_worker.PHOTOS, read on this machine.
    Raises:
        RelayFault: what ended the stream.
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
