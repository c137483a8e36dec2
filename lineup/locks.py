"""One run of a stage at a time in a project.

A killed `dvc repro` leaves the stage that it started running, and the next one may start the same stage
beside it. DVC must not hash a result while the other process replaces it, so the second waits for the first,
and finds its work in the side cache.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lineup.errors import UserError

log = logging.getLogger(__name__)

LOCKS = Path(
    ".cache/locks"
)  # of this folder: experiments that DVC runs elsewhere share the side cache, but no results
_held: list[IO[str]] = []
_in_scope = False


@contextmanager
def scope() -> Iterator[None]:
    """While a stage runs as a command.

    Whatever else calls a stage holds nothing: it might start another and wait for itself.
    """
    global _in_scope
    _in_scope = True
    try:
        yield
    finally:
        _in_scope = False
        while _held:
            _held.pop().close()


def hold(name: str) -> None:
    """In a command: waits until no other process holds `name`, and holds it until the command ends, however
    it ends.
    """
    if not _in_scope:
        return
    path = LOCKS / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{LOCKS.parent}: is no folder; move it away, Lineup keeps there what it has computed"
        ) from None
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(
            file, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # not flock: worker processes would inherit it and hold it on
    except (BlockingIOError, PermissionError):
        log.warning("an earlier run of this stage is still at work here; waiting until it ends")
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError as error:  # a network's disk without locks
        log.warning("can't tell whether another run of this stage is at work here (%s)", error.strerror)
    _held.append(file)
