"""A Python that imports the libraries once and runs each command in a fork of itself. `forked` starts it.

A fork takes over what a command can see of its caller: the working directory, the environment, the standard
streams, the resource limits, the mode of new files and whether it ignores Ctrl-C. It imports `lineup` and
`stages` from its own working directory, ends with an exit code of its own and can be killed, as any process.
"""

from __future__ import annotations

import atexit
import contextlib
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
import threading
from pathlib import Path
from typing import NamedTuple, TextIO

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


def import_libraries() -> None:
    for library in (*LIBRARIES, "remembered_lock"):
        with contextlib.suppress(ImportError):  # another version of DVC may have another module
            importlib.import_module(library)
    gc.collect()
    gc.freeze()  # or a collection in a fork would copy every page


def serve(path: str, own: dict[str, str]) -> Command:
    """Forks for each command, until standard input ends. It returns in the forks alone.

    path: of the socket. Its folder is removed in the end.
    own: the environment that this process was started with.
    """
    own = _read_at_start(own)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            if listener not in select.select([listener, sys.stdin], [], [])[0]:
                shutil.rmtree(Path(path).parent)
                break
            _reap()
            caller, _ = listener.accept()
            with caller:
                if os.fork():
                    continue
                listener.close()
                command = _receive(caller)
                if _read_at_start(command.environment) != own:
                    break  # the caller starts a Python of its own
                if pid := os.fork():
                    _supervise(caller, pid)
                    break
                return command
    os._exit(0)


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """Without PYTHONPATH, which a fork does take over."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


def _reap() -> None:
    """Lets those processes go that supervised a command and have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _receive(caller: socket.socket) -> Command:
    header, streams, _, _ = socket.recv_fds(caller, 4, 3)
    (size,) = struct.unpack("!I", header)
    with caller.makefile("rb") as reader:
        return Command(**json.loads(reader.read(size)), streams=streams)


def _supervise(caller: socket.socket, pid: int) -> None:
    """Sends the caller the command's pid and its exit code; kills it if the caller is gone before it ends."""
    caller.sendall(struct.pack("!i", pid))
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, caller], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        caller.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def become(command: Command) -> None:
    """Makes this process what a new Python would be for the command."""
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
    sys.modules["numpy"].random.seed()  # or each fork would draw the same numbers; `random` sees to its own
    added = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if command.program == "python":
        added.insert(0, command.folder if command.arguments[0] == "-m" else "")
    sys.path[:0] = added
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
    folder = sys.path.pop(0)  # of this file
    sys.path.append(folder)  # for `remembered_lock`; behind all libraries
    started_with = dict(os.environ)
    import_libraries()
    sys.path.remove(folder)
    own_command = serve(sys.argv[1], started_with)
    become(own_command)
    run(own_command)
