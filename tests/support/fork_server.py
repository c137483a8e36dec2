"""A Python that imports the libraries once and runs each command in a fork of itself. `forked` starts it.

A fork takes over what a command can see of its caller: the working directory, the environment, the standard
streams, the resource limits, the mode of new files and whether it ignores Ctrl-C. Its `lineup` and `stages` are
those of its own working directory, it ends with an exit code of its own and can be killed, as any process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tests.support.imported_lineup import ImportedLineup

# What stages and DVC import, but for what reads the address of a hub as it is imported. This decides how fast a
# command starts and nothing else.
LIBRARIES = (
    "dvc.cli.parser",
    "dvc.dirs",
    "dvc.repo.metrics",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "faiss",
    "flufl.lock",
    "httpx2",
    "jinja2",
    "networkx",
    "pandas",
    "PIL.TiffImagePlugin",
    "psutil",
    "pyarrow.acero",
    "pyarrow.csv",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "pydantic.json_schema",
    "pydantic.main",
    "pydantic.plugin._loader",
    "pydantic.types",
    "pygit2",
    "pyparsing",
    "pytorch_metric_learning.losses",
    "ruamel.yaml",
    "safetensors.numpy",
    "safetensors.torch",
    "scmrepo.git",
    "torch.utils.flop_counter",
    "torchvision",
    "trio",
    "yaml",
    "zc.lockfile",
)
HUGE_PAGE_BYTES = 2 << 20
MADV_COLLAPSE = 25  # of Linux 6.1 and later; an earlier one refuses, and nothing is lost but time
PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Variables that Python or a library reads as it starts: a fork would come too late for another value.
READ_AT_START = ("CUDA_", "KMP_", "LANG", "LC_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")


class Command(NamedTuple):
    """What `fork_client` sends, and the file descriptors of its standard streams."""

    program: str  # python or dvc
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    limits: dict[str, tuple[int, int]]
    umask: int
    ignores_interrupts: bool
    streams: list[int]


class Fork(NamedTuple):
    """A command that runs."""

    pid: int
    ended: int  # a file descriptor that is ready once it has ended
    caller: socket.socket

    def close(self) -> None:
        os.close(self.ended)
        self.caller.close()


def import_libraries() -> None:
    for library in (*LIBRARIES, "tests.support.remembered_lock"):
        with contextlib.suppress(ImportError):  # another version of DVC may have another module
            importlib.import_module(library)


def join_pages() -> None:
    """Lets this process's memory lie in pages of 2 MB, where Linux can do so.

    A fork copies the table of pages, which takes 50 ms for those of 4 KB.
    """
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, access, _, _, _, *name = line.split(maxsplit=5)
        first, end = (int(address, 16) for address in addresses.split("-"))
        first, end = -(-first // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, end // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        if access.startswith("rw") and name in ([], ["[heap]"]) and first < end:
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), MADV_COLLAPSE)


def serve(path: str, own: dict[str, str]) -> Command:
    """Forks for each command, until standard input ends. It returns in the forks alone.

    path: of the socket. Its folder is removed in the end.
    own: the environment that this process was started with.
    """
    own_at_start, running = _read_at_start(own), Running()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready = select.select([listener, sys.stdin, *running.watched], [], [])[0]
            if sys.stdin in ready:
                break
            running.update(ready)
            if listener not in ready:
                continue
            caller, _ = listener.accept()
            command = _receive(caller)
            if command is None:
                caller.close()
                continue
            if _read_at_start(command.environment) != own_at_start:
                caller.close()  # it starts a Python of its own
            elif pid := os.fork():
                running.add(caller, pid)
            else:
                running.forget()
                caller.close()
                return command
            for number in command.streams:
                os.close(number)
    shutil.rmtree(Path(path).parent)
    os._exit(0)


class Running:
    """The commands that run. Each is killed if its caller is gone before it ends."""

    def __init__(self) -> None:
        self._forks: list[Fork] = []

    @property
    def watched(self) -> list[int | socket.socket]:
        """What is ready when a command has ended or its caller is gone."""
        return [watched for fork in self._forks for watched in (fork.ended, fork.caller)]

    def add(self, caller: socket.socket, pid: int) -> None:
        """Sends the caller the command's pid."""
        self._forks.append(Fork(pid, os.pidfd_open(pid), caller))
        with contextlib.suppress(OSError):
            caller.sendall(struct.pack("!i", pid))

    def update(self, ready: list[Any]) -> None:
        """Sends the exit codes of the commands that have ended, kills those whose callers are gone."""
        for fork in [fork for fork in self._forks if fork.ended in ready]:
            _, status = os.waitpid(fork.pid, 0)
            with contextlib.suppress(OSError):
                fork.caller.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
            self._forks.remove(fork)
            fork.close()
        for fork in self._forks:
            if fork.caller in ready:
                os.kill(fork.pid, signal.SIGKILL)

    def forget(self) -> None:
        """For a fork, which has nothing to do with the others."""
        for fork in self._forks:
            fork.close()


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """Without PYTHONPATH, which a fork does take over."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


def _receive(caller: socket.socket) -> Command | None:
    """None if the caller was ended before it had sent all."""
    streams: list[int] = []
    with contextlib.suppress(struct.error, ValueError, OSError), caller.makefile("rb") as reader:
        header, streams, _, _ = socket.recv_fds(caller, 4, 3)
        (size,) = struct.unpack("!I", header)
        return Command(**json.loads(reader.read(size)), streams=streams)
    for number in streams:
        os.close(number)
    return None


def become(command: Command, imported: ImportedLineup) -> None:
    """Makes this process what a new Python would be for the command. It is killed when the server ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, stream in enumerate(command.streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = _text_stream(0, "rb", sys.stdin)
    sys.stdout = sys.__stdout__ = _text_stream(1, "wb", sys.stdout)
    sys.stderr = sys.__stderr__ = _text_stream(2, "wb", sys.stderr)
    os.chdir(command.folder)
    os.umask(command.umask)
    signal.signal(signal.SIGINT, signal.SIG_IGN if command.ignores_interrupts else signal.default_int_handler)
    os.environ.clear()
    os.environ.update(command.environment)
    for name, (soft, hard) in command.limits.items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    tempfile.tempdir = None  # it is chosen anew, by the command's TMPDIR
    sys.modules["numpy"].random.seed()  # or each fork would draw the same numbers; `random` sees to its own
    added = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = added
    if command.program == "python":
        sys.path.insert(0, command.folder if command.arguments[0] == "-m" else "")
        imported.adopt()
    if os.environ.get("PYTHONPATH"):
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ImportError):
            importlib.import_module("sitecustomize")


def _text_stream(number: int, mode: str, like: TextIO) -> io.TextIOWrapper:
    stream = open(number, mode, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        stream,
        like.encoding,
        like.errors,
        line_buffering=bool(like.line_buffering) or stream.isatty(),
        write_through=like.write_through,  # type: ignore[attr-defined]
    )


def run(command: Command) -> None:
    """Runs the command, and ends the process as Python does, but frees nothing: to free is to copy pages."""
    status: object = 0
    try:
        _execute(command.program, command.arguments)
    except SystemExit as end:
        status = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if not (status is None or isinstance(status, int)):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((status or 0) & 0xFF)


def _execute(program: str, arguments: list[str]) -> None:
    """What `dvc`, `python -m` and `python -c` do."""
    if program == "dvc":
        sys.argv = [program, *arguments]
        sys.exit(importlib.import_module("dvc.cli").main())
    option, name, *options = arguments
    sys.argv = [option, *options]
    if option == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    started_with = dict(os.environ)
    import_libraries()
    imported_lineup = ImportedLineup(Path(sys.path[0]))  # the working directory, which `-m` has put there
    del sys.path[0]
    gc.collect()
    gc.freeze()  # or a collection in a fork would copy every page
    join_pages()
    own_command = serve(sys.argv[1], started_with)
    become(own_command, imported_lineup)
    run(own_command)
