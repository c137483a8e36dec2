"""How a command starts, so that no Ctrl-C and no lack of memory ends it in a traceback.

A command imports its libraries for a second or more. Until `cli.run` takes over, this module handles both. It
also sets what OpenMP, by which PyTorch and FAISS compute, reads only once.
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
    """Call this before anything heavy is imported."""
    sys.excepthook = _print_error
    # By default, threads that wait for each other spin. Beside another process, a training step then took ten
    # times as long; on an idle machine, both take as long (benchmarks/RESULTS.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not _ignores_interrupts():
        signal.signal(signal.SIGINT, _exit_at_once)


@contextmanager
def work() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, so that half-written files are removed."""
    begun = signal.getsignal(signal.SIGINT) is _exit_at_once
    if begun:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if begun:
            signal.signal(signal.SIGINT, _exit_at_once)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, Ctrl-C has no effect; it takes effect at the end of the block.

    A terminal sends Ctrl-C to all processes of a command, but those that are started inside ignore it.
    """
    if _ignores_interrupts():
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
    """For a worker process that decodes photos, before it starts.

    libtiff prints each tag that it does not know, without the file's name. Python's errors are still printed.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _ignores_interrupts() -> bool:
    """As `nohup` makes a command do."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _exit_at_once(*_: object) -> None:
    """Nothing is being written yet that would have to be removed."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from lineup import errors

    sentence = errors.sentence(error)
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {sentence}", file=sys.stderr)
