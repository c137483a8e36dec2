"""`python` and `dvc` as forks of one Python that has imported the libraries; see `fork_server`.

A stage imports libraries for up to five seconds, and in most tests works for a tenth of one.
"""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path


@functools.cache
def programs(**variables: str) -> str | None:
    """A folder for the front of PATH. Its programs fork while this process lives; None where none can fork.

    On macOS a process that has loaded some of the libraries can't be forked safely.

    variables: beside this process's environment. A command whose variables that are read at the start differ
        from these gets a Python of its own.
    """
    if sys.platform != "linux" or len(sys.executable.split()) > 1:  # the latter can't start a script
        return None
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    client = Path(__file__).with_name("fork_client.py").read_text(encoding="utf-8")
    for name in ("python", "dvc"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{client}", encoding="utf-8")
        (folder / name).chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fork_server", folder / "server"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C ends the test, which ends the server
        env={**os.environ, **variables},
    )
    assert server.stdout and server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)  # which ends its standard input, and so the server
    return str(folder)
