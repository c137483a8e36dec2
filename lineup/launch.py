"""A command's first second, while it imports its libraries: neither Ctrl-C nor a lack of memory ends it in a
traceback.

`python -m stages.x` begins here; `cli.run` takes over once everything is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

INTERRUPTED = "interrupted; run again to go on"


def begin() -> None:
    sys.excepthook = _tell
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of what `nohup` starts
        signal.signal(signal.SIGINT, _interrupted)


@contextmanager
def work() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt within, so that what is half-written is removed."""
    begun = signal.getsignal(signal.SIGINT) is _interrupted
    if begun:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if begun:
            signal.signal(signal.SIGINT, _interrupted)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is left.

    Processes that are started within never see it, though a terminal sends it to all.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what `nohup` starts
        yield
        return
    arrived: list[object] = []
    before = signal.signal(signal.SIGINT, lambda *_: arrived.append(None))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt


def silence_libraries() -> None:
    """In a worker that decodes: libtiff prints tags that it doesn't know, without the file's name. Python's
    errors are still printed.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _interrupted(*_: object) -> None:
    """At once: nothing is under way that would have to be cleaned up."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from lineup import errors

    told = errors.sentence(error)
    if told is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {told}", file=sys.stderr)
