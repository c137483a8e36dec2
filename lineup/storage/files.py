"""Files and folders that appear under their name by a rename, so that no reader ever sees half of one."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from lineup.errors import UserError, naming

# A folder of the local cache that was used within this time is never removed: a run may still need it.
IN_USE_SECONDS = 24 * 3600

NOTHING_FILE = "nothing.txt"
# What to do about a damaged result.
REPAIR = "run `dvc checkout --force`, or `dvc repro` once it's removed"


def missing(path: Path) -> UserError:
    """The error to raise for a result that does not exist."""
    return UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it")


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Creates or replaces a file or folder by a rename.

    Args:
        path: its name. An OSError of the disk names it, never the temporary path.
        write: called with a temporary path, where it must create the file or folder.
    """
    temporary, former = (path.with_name(f".{path.name}.{part}{os.getpid()}.tmp") for part in ("", "former."))
    try:
        with naming(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            restore_former(path)
            remove_abandoned(path.parent, path.name)
            _remove(temporary)
            write(temporary)
            if temporary.is_dir() and os.path.lexists(path):
                # A folder can't be renamed over a full one, and must not be seen half removed.
                path.rename(former)
            temporary.replace(path)
    finally:
        if os.path.lexists(former) and not os.path.lexists(path):
            former.rename(path)
        with suppress(OSError):  # A disk that fails has raised above; the next run removes what is left.
            _remove(temporary)
            _remove(former)


def write_nothing(folder: Path) -> None:
    """Creates or replaces a folder without results; its only file says so, as DVC warns of empty folders."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        (temporary / NOTHING_FILE).write_text("This row has no results of this kind.\n", encoding="utf-8")

    replace_atomically(folder, write)


def mark_used(folder: Path) -> None:
    """Records a use of a folder of the local cache, which is created if it does not exist.

    `lineup cache --prune` takes the latest modification of the folder or a file in it as the last use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)


def remove_folder(folder: Path) -> None:
    """Removes a folder, which is renamed first, so that no process ever sees half of it."""
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def restore_former(path: Path) -> None:
    """Gives a folder its name back, if a process was killed between the two renames that replace it."""
    if os.path.lexists(path):
        return
    for former in path.parent.glob(f".{glob.escape(path.name)}.former.*.tmp"):
        if not _is_running(former.name.split(".")[-2]):
            former.rename(path)
            return


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left half-written in a folder: under one name, or under any."""
    for left in folder.glob(f".{glob.escape(name) if name else '*'}.*.tmp"):
        if not _is_running(left.name.split(".")[-2]):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    """Whether a process with this number is running; a zombie or a thread is not."""
    try:
        return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() not in (
            psutil.STATUS_ZOMBIE,
            psutil.STATUS_DEAD,
        )
    except psutil.AccessDenied:  # It is another user's.
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8 with lines that end in LF."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file with sorted keys: equal contents give equal bytes."""
    write_text(
        path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError if it does not exist or is damaged."""
    try:
        with naming(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError:
        raise UserError(f"{path}: is damaged; {REPAIR}") from None
