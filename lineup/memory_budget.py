"""Memory that processes share out among them, so that what is large waits until there is room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext


class MemoryBudget:
    """Bytes that all who hold the same budget may take at a time. Whatever takes more than all of it goes
    alone.

    Handed to processes when they start. A process that is killed gives nothing back.
    """

    def __init__(self, context: BaseContext, bytes_in_all: int) -> None:
        self._bytes_in_all = bytes_in_all
        self._free = context.RawValue("q", bytes_in_all)
        self._changed = context.Condition()

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        """Waits until `count` bytes are free; they are taken within."""
        share = min(count, self._bytes_in_all)
        with self._changed:
            self._changed.wait_for(lambda: self._free.value >= share)
            self._free.value -= share
        try:
            yield
        finally:
            with self._changed:
                self._free.value += share
                self._changed.notify_all()
