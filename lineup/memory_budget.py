"""Memory that several processes share: whoever needs much of it waits until enough is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext


class MemoryBudget:
    """A number of bytes that all processes with the same budget may take together.

    Pass it to the processes when they start. A task that needs more than the whole budget takes all of it, so
    it runs alone. A process that is killed gives nothing back.
    """

    def __init__(self, context: BaseContext, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._free = context.RawValue("q", total_bytes)
        self._changed = context.Condition()

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        """Waits until `count` bytes are free; they are taken until the block is left."""
        share = min(count, self._total_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._free.value >= share)
            self._free.value -= share
        try:
            yield
        finally:
            with self._changed:
                self._free.value += share
                self._changed.notify_all()
