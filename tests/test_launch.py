"""A command's first second: Ctrl-C or a lack of memory while it imports its libraries ends in a sentence, not
a traceback.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lineup import launch
from tests.support import project
from tests.support.project import ROOT, run


@pytest.fixture(autouse=True)
def ctrl_c_is_minded() -> Iterator[None]:
    """A shell's background job, as tests may be, ignores it, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


LINUX_ALONE = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS doesn't limit a process's address space"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "library"),
    [("stages.score", "numpy"), ("stages.embed", "torch"), ("lineup", "pydantic")],
)
def test_ctrl_c_in_the_first_second_leaves_no_traceback(module: str, library: str) -> None:
    """Python prints each library that it has imported, the parts of a large one before the whole."""
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=project.environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    next(line for line in process.stderr if f" {library}." in line)
    os.killpg(process.pid, signal.SIGINT)
    printed = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert (process.wait(), printed) == (130, ["interrupted; run again to go on"])


@pytest.mark.slow
@LINUX_ALONE
def test_libraries_that_memory_has_no_room_for_are_told_in_a_sentence() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))

    command = [sys.executable, "-m", "stages.embed", "--row", "row"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=project.environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: memory ran out; free some") and done.stderr.count("\n") == 1


def test_a_bug_in_the_imports_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    launch._print_error(ImportError, ImportError("cannot import name 'x' from 'y'"), None)
    assert "ImportError: cannot import name 'x' from 'y'" in capsys.readouterr().err


@pytest.mark.slow
def test_who_only_imports_the_stages_keeps_his_own_ctrl_c() -> None:
    code = "import signal, sys, lineup.cli; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sys.excepthook)"
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.startswith("True <built-in function excepthook>")


@pytest.mark.parametrize(("chosen", "policy"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(chosen: str, policy: str) -> None:
    code = (
        "import sys; assert not {'torch', 'faiss'} & {*sys.modules}; sys.argv = ['-m'];"
        "import os, stages; assert not {'torch', 'faiss'} & {*sys.modules}; print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == policy


def test_ctrl_c_is_held_back_while_workers_start() -> None:
    done = 0
    with pytest.raises(KeyboardInterrupt), launch.uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        done = 1
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_workers_never_see_ctrl_c_not_even_while_they_import() -> None:
    code = (
        "import multiprocessing as m, os, signal\n"
        "from concurrent.futures import ProcessPoolExecutor as Pool\n"
        "from lineup.photos import scan_processes\n"
        "if __name__ == '__main__':\n"
        "    scan_processes.start_forkserver()\n"
        "    with Pool(1, m.get_context('forkserver')) as pool:\n"
        "        print(signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result())\n"
    )
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout == "True\n"
