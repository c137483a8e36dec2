"""Two runs of one stage in one folder: the second waits for the first, however the first ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lineup import locks
from lineup.errors import UserError
from tests.support import project

CODE = """
import sys
from lineup import locks
with locks.scope():
    locks.hold("embed.row")
    print("took", flush=True)
    sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = project.environment(PYTHONPATH=str(project.ROOT))
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=folder,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


@pytest.mark.slow
def test_the_second_waits_until_the_first_is_gone(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert first.stdout and first.stdout.readline() == "took\n"
    second = start(tmp_path)
    assert second.stderr and "still at work" in second.stderr.readline()
    (tmp_path / "other").mkdir()
    elsewhere = start(tmp_path / "other")
    assert elsewhere.communicate("")[0] == "took\n", "another folder's runs don't wait"
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert second.communicate("")[0] == "took\n"
    first.communicate()


def test_what_is_no_command_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller of a stage's main that starts another stage would wait for itself."""
    monkeypatch.chdir(tmp_path)
    with locks.scope():
        locks.hold("embed.row")  # and lets go of it
    locks.hold("embed.row")
    assert start(tmp_path).communicate("", timeout=60)[0] == "took\n"


def test_a_file_in_the_place_of_the_local_cache_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cache").write_text("")
    with locks.scope(), pytest.raises(UserError, match=r"^\.cache: is not a folder"):
        locks.hold("embed.row")
