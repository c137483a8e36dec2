"""One project of two rows that ran to its end, for all tests of a run; each test copies it.

It takes a quarter of a minute, and three files start from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support import project
from tests.support.project import demo_params, repro, run

ROWS = ("mobilenet_v2", "raw_pixels_l2")
IDENTITIES = 8


def make(factory: pytest.TempPathFactory) -> Path:
    """The project, with all results and a commit of them. xdist's workers share one, so nothing may change it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the run's, beside those of the other workers
    folder = root / "finished project"
    with root.joinpath("finished project.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _executed(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            project.create(folder, demo_params(*ROWS, image_size=32))
            run("python", "-m", "lineup", "demo", "--identities", str(IDENTITIES), cwd=folder)
            executed = repro(folder)
            run("git", "add", "-A", cwd=folder)
            run("git", "commit", "-qm", "result", cwd=folder)
            _executed(folder).write_text(json.dumps(executed), encoding="utf-8")
    return folder


def executed(folder: Path) -> list[str]:
    """The stages that its one `dvc repro` executed, in order."""
    return json.loads(_executed(folder).read_text(encoding="utf-8"))


def _executed(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def copy(finished: Path, folder: Path) -> Path:
    """A copy, to change."""
    return Path(shutil.copytree(finished, folder, symlinks=True))
