"""Errors as a user reads them: one sentence on where the fault is, what it is, and the nearest fix.

A `UserError` brings its own sentence; `sentence` writes those for a disk's fault and for a lack of memory.
Any other error is a bug of ours, and ends in a traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_AGAIN = "run again: nothing finished is lost"
_NO_MEMORY = f"memory ran out; free some, or give this process more, and {_AGAIN}"
_NO_THREAD = (
    f"no further process or thread can be started; end some, or raise `ulimit -u` or `-v`, and {_AGAIN}"
)
# How torch, OpenVINO and FAISS word it in a RuntimeError.
_OUT_OF_MEMORY_PHRASES = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    os.strerror(errno.ENOMEM),
)
_DISK_FAILS = ("the disk fails", "check it, or mount it again")
# By error number, the fault and the fix. The disk is at fault, whether or not the error names a path.
_DISK_FAULTS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("your quota of this disk is used up", "free some space"),
    errno.EFBIG: ("a file is larger than the disk or `ulimit -f` allows", "raise the limit"),
    errno.EROFS: ("the disk is read-only", "mount it for writing, or work on another"),
    errno.EIO: _DISK_FAILS,
    errno.ESTALE: ("the network disk has lost it", "mount it again"),
    errno.EMFILE: ("this process has too many files open", "raise `ulimit -n`"),
    errno.ENFILE: ("this machine has too many files open", "close some"),
}
# Only for errors that name a path: without one, the cause is a mistaken call, not the disk.
_PATH_FAULTS = {
    **_DISK_FAULTS,
    errno.EACCES: ("permission denied", "let this user read and write it"),
    errno.EPERM: ("permission denied", "let this user read and write it"),
    errno.ENOENT: ("does not exist", "create it, or `dvc pull` it"),
    errno.EEXIST: ("is not a folder", "move it away"),
    errno.ENOTDIR: ("is inside something that is not a folder", "move that away"),
    errno.EISDIR: ("is a folder where a file belongs", "move it away"),
    errno.ELOOP: ("is a link that leads to itself", "remove it"),
    errno.ENAMETOOLONG: ("its name is too long for this disk", "shorten it"),
    errno.EBUSY: ("is in use", "end what uses it"),
    **{
        getattr(errno, name): _DISK_FAILS
        for name in ("ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EBADMSG")
    },
    # Only Linux has these.
    **{getattr(errno, name): _DISK_FAILS for name in ("EREMOTEIO", "EUCLEAN") if hasattr(errno, name)},
}
_NO_INODE = ("the disk has no inode left for another file", "remove some files, of whatever size")
# Some libraries print the whole content that they could not read.
_MAX_REASON_CHARACTERS = 300


# Faults that are not due to the file being read: any other would fail, too, and a later try may succeed.
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
    """Something that the user can fix; the message is one sentence: where, what is wrong, what to do.

    `cli.run` prints it without a traceback, and exits with 1.
    """


@contextmanager
def explained(fault: str, advice: str = "") -> Iterator[None]:
    """Turns what a library raises on content from outside into a UserError.

    Its message is "FAULT (the library's reason); ADVICE". Use it around calls of libraries alone, which raise
    almost anything on damaged content. A lack of memory or a disk's fault is not the content's, and passes
    unchanged.
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
    """An error's message, on one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # PyTorch's first line is only a heading.
    line = lines[-1] if lines[0].startswith("Error(s) in loading state_dict") else lines[0]
    return line.strip().rstrip(".")[:_MAX_REASON_CHARACTERS]


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word.

    That is "; did you mean 'x'?" with the closest known word, or else the list of all known words.
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def printable(text: str, max_characters: int | None = None) -> str:
    """A text on one line, in which codes replace unprintable characters.

    The name of a file or row can then neither move the cursor nor colour the terminal.

    Args:
        max_characters: the middle of a longer text is left out.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text
    )
    if max_characters is None or len(shown) <= max_characters:
        return shown
    return f"{shown[: max_characters // 2]}…{shown[-(max_characters - max_characters // 2 - 1) :]}"


def sentence(error: BaseException) -> str | None:
    """What to print instead of a traceback; None if the error is a bug."""
    if isinstance(error, UserError):
        return printable(str(error))
    if lack := _lack_of_memory(error):
        return lack
    path, code = _path(error), _disk_fault(error)
    if code is None and path is not None and isinstance(error, OSError):
        code = error.errno
    if code not in _PATH_FAULTS or (code == errno.EEXIST and path is not None and path.is_dir()):
        return None
    fault, fix = _PATH_FAULTS[code]
    if isinstance(error, NoInode) or (code == errno.ENOSPC and path is not None and _lacks_inodes(path)):
        fault, fix = _NO_INODE
    return printable(f"{'' if path is None else f'{path}: '}{fault}; {fix}, and {_AGAIN}")


class NoInode(OSError):
    """ENOSPC on a disk that has bytes left.

    It is recognised where it happens, since removing a temporary file frees an inode.
    """


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raises a disk's fault as an OSError that names `path`, whichever library raised it.

    An error that names another path passes unchanged.

    Args:
        temporary: the name that `path` has until it is complete, which the user never sees.
    """
    try:
        yield
    except Exception as error:
        named, code = _path(error), _disk_fault(error)
        if code is None and isinstance(error, OSError) and error.errno in _PATH_FAULTS:
            code = error.errno
        if code is None or (
            named is not None and (temporary is None or temporary not in (named, *named.parents))
        ):
            raise
        kind = NoInode if code == errno.ENOSPC and _lacks_inodes(path) else OSError
        # If the temporary file can't be created, it is the folder that denies permission.
        denied = temporary is not None and code in (errno.EACCES, errno.EPERM)
        raise kind(code, os.strerror(code), str(path.parent if denied else path)) from error


def _path(error: BaseException) -> Path | None:
    """The path that an error names; None without one, or where it is the number of an open file."""
    named = error.filename if isinstance(error, OSError) else None
    return Path(os.fsdecode(named)) if isinstance(named, str | bytes | os.PathLike) else None


def _disk_fault(error: BaseException) -> int | None:
    """The error number of a disk's fault; None if it is something else.

    Python and pyarrow raise an OSError that has the number; FAISS and safetensors have only its text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _DISK_FAULTS else None
    return next((code for code in _DISK_FAULTS if os.strerror(code) in str(error)), None)


def _lacks_inodes(path: Path) -> bool:
    """Whether no inode is left. File systems without a table of inodes report 0 of 0, and lack none."""
    try:
        disk = os.statvfs(next(folder for folder in (path, *path.parents) if folder.exists()))
    except (OSError, StopIteration):
        return False
    return disk.f_files > 0 and disk.f_favail == 0


def _lack_of_memory(error: BaseException) -> str | None:
    if isinstance(error, BlockingIOError) or "can't start new thread" in str(error):
        return _NO_THREAD
    if isinstance(error, ImportError):
        # The library did not fit into `ulimit -v`; with EPERM, its disk forbids running programs.
        unmapped = "failed to map segment" in str(error) and os.strerror(errno.EPERM) not in str(error)
        return _NO_MEMORY if unmapped else None
    lacks = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY_PHRASES)
    )
    return _NO_MEMORY if lacks or (isinstance(error, OSError) and error.errno == errno.ENOMEM) else None
