"""The time that a training may take."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """Measures how long a training has run, over all its interruptions, and tells when its time is up.

    Args:
        limit_seconds: how long the training may run. Its time starts with this object.
        now: a clock, in seconds. Tests pass one of their own.
    """

    def __init__(self, limit_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_seconds, self._now = limit_seconds, now
        self._started, self._earlier_seconds = now(), 0.0

    def add_earlier(self, seconds: float) -> None:
        """Counts the time that the training ran before it was interrupted."""
        self._earlier_seconds += seconds

    def seconds(self) -> float:
        """How long the training has run so far."""
        return self._earlier_seconds + self._now() - self._started

    def has_passed(self) -> bool:
        """Whether the training has to stop; asked before each step."""
        return self.seconds() > self._limit_seconds
