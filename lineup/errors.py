"""What a user is told of an error: one sentence with the place, the fault and the nearest fix.

`UserError` brings its own; `sentence` has those of a disk and of memory. Whatever it has none for is a bug.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_MEMORY = "memory ran out; free some, or give this process more, and run again: nothing finished is lost"
_NO_THREAD = "no further process or thread can be started; end some, or raise `ulimit -u` or `-v`, and run again: nothing finished is lost"
_WORDS_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    os.strerror(errno.ENOMEM),
)  # of torch, OpenVINO, FAISS
_FAILS = ("the disk fails", "check it, or mount it again")
# Told whether a path is named or not: no caller is to blame for these.
_OF_DISKS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("your quota of this disk is used up", "free some space"),
    errno.EFBIG: ("a file is larger than the disk or `ulimit -f` allows", "raise the limit"),
    errno.EROFS: ("the disk is read-only", "mount it for writing, or work on another"),
    errno.EIO: _FAILS,
    errno.ESTALE: ("the network's disk has lost it", "mount it again"),
    errno.EMFILE: ("this process has too many files open", "raise `ulimit -n`"),
    errno.ENFILE: ("this machine has too many files open", "close some"),
}
# Told of a path that is named. Without one, a call was wrong, not the disk.
_OF_PATHS = {
    **_OF_DISKS,
    errno.EACCES: ("permission denied", "let this user read and write it"),
    errno.EPERM: ("permission denied", "let this user read and write it"),
    errno.ENOENT: ("does not exist", "make it, or `dvc pull` it"),
    errno.EEXIST: ("is no folder", "move it away"),
    errno.ENOTDIR: ("what it lies in is no folder", "move that away"),
    errno.EISDIR: ("is a folder where a file belongs", "move it away"),
    errno.ELOOP: ("is a link that leads to itself", "remove it"),
    errno.ENAMETOOLONG: ("its name is too long for this disk", "shorten it"),
    errno.EBUSY: ("is in use", "end what uses it"),
    **{
        getattr(errno, name): _FAILS
        for name in ("ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EBADMSG")
    },
    **{
        getattr(errno, name): _FAILS for name in ("EREMOTEIO", "EUCLEAN") if hasattr(errno, name)
    },  # Linux's alone
}
_NO_INODE = ("the disk has no inode left for another file", "remove some files, of whatever size")
_LONGEST_REASON = 300  # characters; some libraries print the whole content


# Faults that say nothing about the one file that was to be read: others would fail as well, and perhaps only
# now.
OF_ALL_FILES = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENODEV,
}


class UserError(Exception):
    """Something the user can mend.

    `cli.run` prints its one sentence and exits with 1, without a traceback.
    """


@contextmanager
def explained(fault: str, advice: str = "") -> Iterator[None]:
    """Turns what a library raises on content from outside into a UserError: "FAULT (the library's reason);
    ADVICE".

    For calls of libraries alone, as on damaged content they raise about everything. Lack of memory and errors
    of the disk are no faults
    of the content: they are left as they are.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if _disk_fault(error) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)):
            raise
        raise UserError(f"{fault} ({reason(error)}){advice and '; '}{advice}") from None


def reason(error: BaseException) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = (
        lines[-1] if lines[0].startswith("Error(s) in loading state_dict") else lines[0]
    )  # PyTorch's heading says nothing
    return line.strip().rstrip(".")[:_LONGEST_REASON]


def suggest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest known word, else the list of known words."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def printable(text: str, max_characters: int | None = None) -> str:
    """On one line, with codes for what isn't printable: names of files and rows can't move the cursor or
    colour the terminal.

    max_characters: of a longer text the middle is left out.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text
    )
    if max_characters is None or len(shown) <= max_characters:
        return shown
    return f"{shown[: max_characters // 2]}…{shown[-(max_characters - max_characters // 2 - 1) :]}"


def sentence(error: BaseException) -> str | None:
    """What to print in the place of a traceback; None if the error is a bug."""
    if isinstance(error, UserError):
        return printable(str(error))
    if lack := _lack_of_memory(error):
        return lack
    path, code = _path(error), _disk_fault(error)
    if code is None and path is not None and isinstance(error, OSError):
        code = error.errno
    if code not in _OF_PATHS or (code == errno.EEXIST and path is not None and path.is_dir()):
        return None
    fault, fix = _OF_PATHS[code]
    if isinstance(error, NoInode) or (code == errno.ENOSPC and path is not None and _lacks_inodes(path)):
        fault, fix = _NO_INODE
    return printable(
        f"{'' if path is None else f'{path}: '}{fault}; {fix}, and run again: nothing finished is lost"
    )


class NoInode(OSError):
    """ENOSPC on a disk that has bytes left.

    Told apart where it happens, as removing a temporary file frees an inode.
    """


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """A disk's fault within becomes an OSError that names `path`, whichever library raised it, unless it
    names another one.

    temporary: what `path` is called until it is whole, a name that the user never sees.
    """
    try:
        yield
    except Exception as error:
        named, code = _path(error), _disk_fault(error)
        if code is None and isinstance(error, OSError) and error.errno in _OF_PATHS:
            code = error.errno
        if code is None or (
            named is not None and (temporary is None or temporary not in (named, *named.parents))
        ):
            raise
        kind = NoInode if code == errno.ENOSPC and _lacks_inodes(path) else OSError
        # Where the temporary file can't be made, it is the folder that this user may not write into.
        place = path.parent if temporary is not None and code in (errno.EACCES, errno.EPERM) else path
        raise kind(code, os.strerror(code), str(place)) from error


def _path(error: BaseException) -> Path | None:
    named = (
        error.filename if isinstance(error, OSError) else None
    )  # an open file's number, where that is what a call was given
    return Path(os.fsdecode(named)) if isinstance(named, str | bytes | os.PathLike) else None


def _disk_fault(error: BaseException) -> int | None:
    """The number of a disk's fault.

    Python and pyarrow raise an OSError with it; FAISS and safetensors tell it in words.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _OF_DISKS else None
    return next((code for code in _OF_DISKS if os.strerror(code) in str(error)), None)


def _lacks_inodes(path: Path) -> bool:
    """Some file systems have no table of them, and say 0 of 0."""
    try:
        disk = os.statvfs(next(folder for folder in (path, *path.parents) if folder.exists()))
    except (OSError, StopIteration):
        return False
    return disk.f_files > 0 and disk.f_favail == 0


def _lack_of_memory(error: BaseException) -> str | None:
    if isinstance(error, BlockingIOError) or "can't start new thread" in str(error):
        return _NO_THREAD
    if isinstance(
        error, ImportError
    ):  # of a library that doesn't fit into `ulimit -v`; with EPERM, one that mustn't be run
        return (
            _NO_MEMORY
            if "failed to map segment" in str(error) and os.strerror(errno.EPERM) not in str(error)
            else None
        )
    lacks = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS_OF_MEMORY)
    )
    return _NO_MEMORY if lacks or (isinstance(error, OSError) and error.errno == errno.ENOMEM) else None
