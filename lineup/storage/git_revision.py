"""What git knows of the project: files as they are in a revision, and what a command of git prints."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lineup.errors import UserError, suggest

_MOST_NAMES_LISTED = 20


@dataclass(frozen=True)
class Revision:
    """A commit, and the name by which the user called it."""

    name: str
    commit: str

    def read(self, path: Path) -> bytes | None:
        """The content of a file, by its path from the working directory; None if it does not exist there."""
        done = _git("cat-file", "blob", f"{self.commit}:./{path.as_posix()}")
        return done.stdout if done.returncode == 0 else None


def find(name: str) -> Revision:
    """The revision of this name: a branch, a tag, a commit, or an experiment of DVC.

    Raises:
        UserError: there is none, or the working directory is in no git repository.
    """
    try:
        inside = _git("rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        raise UserError("git is not installed, so that earlier figures can't be read; install it") from None
    if inside.returncode != 0:
        raise UserError(
            f"{Path.cwd()}: git can't read a repository here ({_reason(inside.stderr)}); "
            "run this in the folder of a project whose metrics/ is in git"
        )
    for candidate in (name, *_experiments(name)):
        done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
        if done.returncode == 0:
            return Revision(name, done.stdout.decode().strip())
    names = _lines("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
    known = suggest(name, names) if names else "; there is no commit yet"
    if len(names) > _MOST_NAMES_LISTED and "did you mean" not in known:
        known = "; use a branch, a tag or a commit of `git log --all`"
    raise UserError(f"{name!r}: is not a revision of this git repository{known}")


def has_changes(folder: Path) -> bool:
    """Whether files of a folder differ from the last commit, or are in no commit."""
    return bool(_lines("status", "--porcelain", "--", folder.as_posix()))


def output(folder: Path, *arguments: str) -> str | None:
    """What a command of git prints in a folder; None where it fails, or git is not installed."""
    try:
        done = _git("-C", str(folder), *arguments)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.decode("utf-8", "replace")


def _experiments(name: str) -> list[str]:
    """The refs of DVC's experiments of this name: refs/exps/<2 digits>/<38 digits>/<name>."""
    refs = _lines("for-each-ref", "--format=%(refname)", "refs/exps")
    return [ref for ref in refs if ref.split("/")[4:] == [name]]


def _lines(*arguments: str) -> list[str]:
    return _git(*arguments).stdout.decode("utf-8", "replace").splitlines()


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ("git", *arguments), capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )


def _reason(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return lines[0].removeprefix("fatal: ")
