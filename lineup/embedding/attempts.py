"""Which photos end the processes that compute their vectors: a record that outlives those processes.

It is an actor on the cluster. A worker reports what it begins and what it has finished; what was begun before
and never finished has ended a worker.
"""

from __future__ import annotations

from typing import NamedTuple


class _Attempt(NamedTuple):
    """node: the id of the node on which the last one began."""

    node: str
    ended_workers: int


class Attempts:
    """Counts, for each item, the workers that ended while they computed it."""

    def __init__(self) -> None:
        self._begun: dict[str, _Attempt] = {}

    def begin(self, item: str, node: str) -> int:
        """Records that a worker on `node` begins with an item, and returns how many workers it has ended.

        A worker that ended with its whole node isn't counted: no photo ends a node.
        """
        last = self._begun.get(item)
        ended = 0 if last is None else last.ended_workers + (last.node in _alive_nodes())
        self._begun[item] = _Attempt(node, ended)
        return ended

    def finish(self, item: str) -> None:
        """Records that an item is done."""
        self._begun.pop(item, None)


def _alive_nodes() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
