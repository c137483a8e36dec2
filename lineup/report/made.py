"""When, where and from which commit a report was made: a script beside the report, and not a part of it.

DVC compares and restores the report by its bytes. With a date in it, every run would make another report, and
one that DVC restores for another commit would name the wrong commit. So the script is no output of a stage.
It names the page that it was written with, and only that page shows it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lineup.report import js_data
from lineup.storage import git_revision
from lineup.storage.files import missing

# What a run itself changes: not what the report was made from.
_WRITTEN_BY_RUNS = (":(exclude,top)metrics", ":(exclude,top)dvc.lock")


class Commit(NamedTuple):
    """The commit that is checked out; changed: files that differ from it, without a run's own results."""

    id: str
    changed: list[str]


def script(page_id: str, folder: Path, now: datetime) -> str:
    """The script's text.

    Args:
        page_id: what the page holds as its own id.
        folder: of the project.
        now: when the report was made.
    """
    commit = commit_of(folder)
    content = {
        "project": project_name(folder),
        "time": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit and commit._asdict(),
    }
    return js_data.assignment("LINEUP_MADE", page_id, content)


def project_name(folder: Path) -> str:
    """The name of the repository that the project was cloned from, else of its folder."""
    origin = git_revision.output(folder, "config", "--get", "remote.origin.url") or ""
    name = origin.strip().rstrip("/").replace("\\", "/").rpartition("/")[2].removesuffix(".git")
    return name.rpartition(":")[2] or folder.resolve().name


def commit_of(folder: Path) -> Commit | None:
    """None where the folder is not in a git repository, has no commit yet, or git is not installed."""
    id = git_revision.output(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = git_revision.output(
        folder, "diff", "-z", "--name-only", "HEAD", "--", ":(top)", *_WRITTEN_BY_RUNS
    )
    if not id or changed is None:
        return None
    return Commit(id.strip(), [name for name in changed.split("\0") if name])


def blob_id(path: Path) -> str:
    """The name that git gives to a file's content; `git log --find-object=<name>` shows its commits.

    Raises:
        UserError: the file does not exist.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
