"""A command that serves a page, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support import project


def start(folder: Path, *command: str, forks: bool = True) -> subprocess.Popen[str]:
    """`lineup <command>` in a folder.

    forks: whether it may be a fork, which starts in a tenth of the time. A fork and its children are no
        children of the process that is returned.
    """
    return subprocess.Popen(
        ["python" if forks else sys.executable, "-m", "lineup", *command],
        cwd=folder,
        env=project.environment(forks, PYTHONPATH=str(project.ROOT)),
        text=True,
        preexec_fn=_heed_interrupts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _heed_interrupts() -> None:
    """Ctrl-C is ignored by what a shell starts in the background, and so by its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def address(server: subprocess.Popen[str], page: str) -> str:
    """What it prints once it listens, as in "search page: http://..."; requests wait until it answers."""
    assert server.stdout and server.stderr
    printed = ""
    for line in server.stdout:
        printed += line
        if line.startswith(f"{page}: http://"):
            return line.split()[2].rstrip("/")
    raise AssertionError(printed + server.stderr.read())


@contextmanager
def serving(folder: Path, page: str, *command: str) -> Iterator[str]:
    """The address, without a slash at its end. Whatever clients do, the server prints nothing more."""
    server = start(folder, *command)
    errors = ""
    try:
        url = address(server, page)
        requests.get(url, timeout=60).raise_for_status()
        yield url
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=60)
    assert errors == ""
