"""Locks, so that a stage runs once at a time in a project, and a judge has one judging page.

A killed `dvc repro` leaves the stage that it started running, and the next one may start the same stage
beside it. DVC must not hash a result while the other process replaces it. So the second run waits for the
first, and then finds its results in the local cache.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lineup.errors import UserError

log = logging.getLogger(__name__)

# Relative, unlike paths.CACHE: experiments that DVC runs elsewhere share the local cache, but no results.
LOCKS = Path(".cache/locks")
_held: list[IO[str]] = []
_in_scope = False


@contextmanager
def scope() -> Iterator[None]:
    """While a stage runs as a command, it may hold locks; they are released at the end of the block.

    Outside, `hold` does nothing: a caller that runs one stage after another would wait for itself.
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
    """Waits until no other process holds the lock `name`, then holds it until the command ends in any way.

    Raises:
        UserError: a file is where the locks' folder belongs.
    """
    if not _in_scope:
        return
    file = _open(name)
    try:
        # lockf, not flock: worker processes would inherit a flock, and hold it after this process has ended.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        log.warning("an earlier run of this stage is still at work here; waiting for it to end")
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError as error:  # A network disk may have no locks.
        log.warning("can't find out whether another run of this stage is at work here (%s)", error.strerror)
    _held.append(file)


@contextmanager
def only_one(name: str, note: str) -> Iterator[str | None]:
    """Holds the lock `name` until the end of the block, with a note to whoever wants it meanwhile.

    Yields:
        None; if another process holds the lock, its note, at once.
    Raises:
        UserError: a file is where the locks' folder belongs.
    """
    with _open(name) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            yield file.read()
            return
        except OSError:  # A network disk may have no locks.
            yield None
            return
        file.truncate(0)
        file.write(note)
        file.flush()
        yield None


def _open(name: str) -> IO[str]:
    path = LOCKS / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{LOCKS.parent}: is not a folder; move it away, since Lineup stores there what it has computed"
        ) from None
    return path.open("a+", encoding="utf-8")


@contextmanager
def file_lock(path: Path) -> Iterator[int]:
    """Waits until no other process or thread holds the file's lock, and holds it until the end of the block.

    The file is created, empty, if it does not exist. It may be replaced by a rename while others wait.

    Yields:
        the number of the open file, for reading and appending.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(file)
            if not _is_replaced(file, path):
                yield file
                return
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # A forked process may have inherited the open file.
            os.close(file)


def _wait_for(file: int) -> None:
    # flock, not lockf, which does not lock against other threads of this process.
    with suppress(OSError):  # A network disk may have no locks.
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_replaced(file: int, path: Path) -> bool:
    """Whether another file has the path by now."""
    try:
        return not os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return True
