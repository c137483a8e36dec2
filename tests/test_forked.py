"""Commands in forks of one Python: as those in a Python of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support import forked, project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="commands have a Python of their own here"),
]
SHOW = """
import json, os, resource, signal, sys, tempfile
import neighbour
streams = [[s.encoding, s.errors, s.line_buffering, s.fileno()] for s in (sys.stdin, sys.stdout, sys.stderr)]
variables = {name: value for name, value in os.environ.items() if name != "PATH"}
limits = resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_NOFILE)
handled = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
open_files = len(os.listdir("/proc/self/fd"))
folders = [os.getcwd(), tempfile.gettempdir()]
print(json.dumps([sys.argv[1:], sys.path, folders, os.umask(0), streams, variables, limits, handled, open_files]))
print("to standard error", file=sys.stderr)
sys.exit(7)
"""


@pytest.mark.parametrize("command", [("-c", SHOW, "one", "two"), ("-m", "shown", "one", "two")])
def test_a_fork_sees_and_ends_as_a_python_of_its_own(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(SHOW, encoding="utf-8")
    (tmp_path / "neighbour.py").write_text("", encoding="utf-8")
    variables = {"PYTHONPATH": "/nowhere", "A": "b", "TMPDIR": str(tmp_path)}
    with_fork, own = (
        project.run("python", *command, cwd=tmp_path, check=False, forks=forks, **variables)
        for forks in (True, False)
    )
    assert with_fork.returncode == own.returncode == 7
    seen = json.loads(own.stdout)
    assert seen[0] == ["one", "two"] and seen[2] == [str(tmp_path)] * 2
    assert json.loads(with_fork.stdout) == seen
    assert with_fork.stderr == own.stderr == "to standard error\n"


@pytest.mark.parametrize(
    "code", ["raise SystemExit('a sentence')", "import os; os.kill(os.getpid(), 9)", "1 / 0"]
)
def test_a_fork_fails_as_a_python_of_its_own(code: str, tmp_path: Path) -> None:
    with_fork, own = (
        project.run("python", "-c", code, cwd=tmp_path, check=False, forks=forks) for forks in (True, False)
    )
    assert with_fork.returncode == own.returncode != 0
    assert with_fork.stderr.splitlines()[-1:] == own.stderr.splitlines()[-1:]


def test_variables_that_a_fork_comes_too_late_for_get_a_python_of_their_own(tmp_path: Path) -> None:
    hashes = {
        project.run("python", "-c", "print(hash('a'))", cwd=tmp_path, PYTHONHASHSEED=seed).stdout
        for seed in "1112"
    }
    assert len(hashes) == 2


def test_a_fork_ends_with_its_caller(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    process = subprocess.Popen(
        ["python", "-c", code],
        cwd=tmp_path,
        env=project.environment(forks=True),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    pid = int(process.stdout.readline())
    assert pid != process.pid
    fork = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    fork.wait(60)
    assert not psutil.pid_exists(pid)


def test_a_command_ends_with_the_server_and_is_not_run_again(tmp_path: Path) -> None:
    own_server = {"LC_OF_THIS_TEST": "1"}
    folder = forked.programs(**own_server)
    assert folder
    starts = tmp_path / "starts"
    starts.touch()
    code = f"import time; open({str(starts)!r}, 'a').write('.'); time.sleep(60)"
    process = subprocess.Popen([f"{folder}/python", "-c", code], env={**os.environ, **own_server})
    while process.poll() is None and not starts.read_text():
        time.sleep(0.01)
    [server] = [each for each in psutil.Process().children() if f"{folder}/server" in each.cmdline()]
    [fork] = server.children()
    server.kill()
    assert process.wait() == -signal.SIGKILL
    psutil.wait_procs([fork])
    assert starts.read_text() == "."


def test_a_fork_s_lineup_is_that_of_its_project(tmp_path: Path) -> None:
    """It is not imported again where it is the same as the checkout's, as it is in projects of tests."""
    folder = project.create(tmp_path / "project", {})
    code = """
import sys
before = "lineup.paths" in sys.modules
from lineup import paths
from lineup.report import html
print(before, [name for name in vars(paths) if name == "ADDED"], paths.__file__, html.__file__)
"""

    def seen() -> list[str]:
        return project.run("python", "-c", code, cwd=folder).stdout.split()

    files = [str(folder / "lineup" / name) for name in ("paths.py", "report/html.py")]
    assert seen() == ["True", "[]", *files]
    with (folder / "lineup/paths.py").open("a", encoding="utf-8") as file:
        file.write("ADDED = 1\n")
    assert seen() == ["False", "['ADDED']", *files]
    shutil.copy2(project.ROOT / "lineup/paths.py", folder / "lineup")
    assert seen() == ["True", "[]", *files]
    (folder / "lineup/report/page/page.css").write_text("", encoding="utf-8")
    assert seen() == ["False", "[]", *files]


def test_dvc_writes_the_same_lock_file_as_a_dvc_of_its_own(tmp_path: Path) -> None:
    """A fork remembers what it has written of it; see `remembered_lock`."""
    stages = {
        name: {"cmd": f"echo {name} > {name}", "params": ["shared", name], "outs": [name]} for name in "abc"
    }
    written: dict[bool, list[bytes]] = {}
    for forks in (True, False):
        folder = tmp_path / f"{forks}"
        folder.mkdir()
        project.run("dvc", "init", "-q", "--no-scm", cwd=folder)
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
        params: dict[str, Any] = {
            "shared": {"rate": 0.00001, "list": [1, [2.5, "yes"]], "none": None},
            "a": {"long": "package:weights/of/a/long/name " * 5, "sha256": "0" * 64},
            "b": {"on": "on", "quoted": "it's: a {text}\n", "umlaut": "ä"},
            "c": 1,
        }
        for params["c"] in (1, 2.0):
            (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
            assert len(project.repro(folder, forks=forks)) == (3 if params["c"] == 1 else 1)
            written.setdefault(forks, []).append((folder / "dvc.lock").read_bytes())
    assert written[True] == written[False]
