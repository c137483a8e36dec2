"""Stands for `python` or `dvc` in a test's PATH: the fork server runs the command, and this ends as it ends.

`forked` writes it beside the server's socket under both names. Where the server can't take a command, it gets a
Python of its own. This file is run for every command, so it imports little.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys


def main() -> None:
    folder, program = os.path.split(sys.argv[0])
    server, arguments = f"{folder}/server", sys.argv[1:]
    if program == "dvc" or arguments[:1] in (["-m"], ["-c"]):
        code = run(server, program, arguments)
        if code is not None and code >= 0:
            sys.exit(code)
        if code is not None:
            end_by(-code)
    os.execv(sys.executable, [sys.executable, *(["-m", "dvc"] if program == "dvc" else []), *arguments])


def run(server: str, program: str, arguments: list[str]) -> int | None:
    """The exit code, or the negative number of the signal that ended it; None if the server can't take it."""
    sent = message(program, arguments)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(server)
            socket.send_fds(connection, [struct.pack("!I", len(sent))], [0, 1, 2])
            connection.sendall(sent)
            pid = receive(connection)
        except OSError:
            return None
        if pid is None:
            return None
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: os.kill(pid, number))
        try:
            code = receive(connection)
        except ConnectionError:
            code = None
        return -signal.SIGKILL if code is None else code  # the command is killed when its server ends


def message(program: str, arguments: list[str]) -> bytes:
    """The fields of `fork_server.Command`."""
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    umask = os.umask(0)
    os.umask(umask)
    fields = {
        "program": program,
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "umask": umask,
        "ignores_interrupts": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }
    return json.dumps(fields).encode()


def receive(connection: socket.socket) -> int | None:
    received = connection.recv(4, socket.MSG_WAITALL)
    return struct.unpack("!i", received)[0] if received else None


def end_by(number: int) -> None:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
