"""Decodes the pictures that strangers send, in worker processes.

A picture may take its decoder too long, or break it, and a thread cannot be stopped: such a process is killed
and replaced. The server itself decodes nothing that strangers sent. A worker hands back the pixels in a file
that is quick to decode, never a pickle.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from PIL import Image

from lineup import launch
from lineup.photos import decoding, image_opening, image_preparation
from lineup.photos.image_opening import BadImage
from lineup.serving.limits import Limits

# The header of a request: the number of bytes of the file that follows.
_REQUEST = struct.Struct(">Q")
# The header of a reply: whether the file was decoded, and the number of bytes that follow: of the picture, or
# of the reason why not.
_REPLY = struct.Struct(">?Q")


@dataclass(frozen=True)
class DecodedPhoto:
    """image_id: of the file; content: its picture as preprocess prepares it; seconds: how long that took."""

    image_id: str
    content: bytes
    seconds: float


class Decoders:
    """`limits.decodings` worker processes. Any thread may use them, and waits while all are busy."""

    def __init__(self, limits: Limits, shorter_side_px: int) -> None:
        self._workers = [_Worker(limits, shorter_side_px) for _ in range(limits.decodings)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def prepare(self, data: bytes | bytearray) -> DecodedPhoto:
        """Raises BadImage, also if the picture takes too long or too much memory."""
        worker = self._idle.get()
        try:
            start = time.perf_counter()
            content = worker.prepare(data)
            return DecodedPhoto(hashlib.sha256(data).hexdigest(), content, time.perf_counter() - start)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.close()


class _Worker:
    """A process that runs this file's `main`; for one thread at a time."""

    def __init__(self, limits: Limits, shorter_side_px: int) -> None:
        self._seconds = limits.decoding_seconds
        settings = (shorter_side_px, limits.decoding_pixels, limits.decoding_seconds, limits.decoding_bytes)
        self._command = [sys.executable, "-m", "lineup.serving.decoder", *map(str, settings)]
        self._closed = False
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        pipe = subprocess.PIPE
        # In a session of its own, so that Ctrl-C reaches the server alone.
        return subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
        )

    def prepare(self, data: bytes | bytearray) -> bytes:
        if self._process.poll() is not None:  # ended from outside while it was idle
            self._restart()
        try:
            decoded, content = self._ask(data)
        except (OSError, EOFError):
            raise BadImage(self._reason(self._restart())) from None
        if not decoded:
            raise BadImage(content.decode())
        return content

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()

    def _ask(self, data: bytes | bytearray) -> tuple[bool, bytes]:
        """Whether the picture was decoded, and its content or the reason why not.

        Raises OSError or EOFError if the process ends meanwhile.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        stdin.write(_REQUEST.pack(len(data)))
        stdin.write(data)
        stdin.flush()
        decoded, size = _REPLY.unpack(_read(stdout, _REPLY.size))
        return decoded, _read(stdout, size)

    def _restart(self) -> int:
        """Replaces the process; returns how it ended: minus the signal, or its exit status."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # for what the process has not read
                pipe.close()  # type: ignore[union-attr]
        status = self._process.wait()
        if not self._closed:
            self._process = self._start()
        return status

    def _reason(self, status: int) -> str:
        if status == -signal.SIGALRM:
            return f"takes more than {self._seconds:g} s to decode; save it again as an ordinary JPEG"
        if status == -signal.SIGKILL:
            return "was given up, most likely for lack of memory; choose a smaller one"
        return f"breaks its decoder (status {status}); save it again as an ordinary JPEG"


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main(shorter_side_px: int, max_pixels: int, seconds: float, memory_bytes: int) -> None:
    """The worker: decodes one picture after the other from stdin, until EOFError at its end.

    The kernel kills it if a picture takes longer than `seconds`.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _bound_memory(memory_bytes)
    launch.silence_libraries()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:  # until the server ends
        data = _read(stdin, *_REQUEST.unpack(_read(stdin, _REQUEST.size)))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        decoded, content = _prepare(data, shorter_side_px, max_pixels)
        signal.setitimer(signal.ITIMER_REAL, 0)
        stdout.write(_REPLY.pack(decoded, len(content)))
        stdout.write(content)
        stdout.flush()


def _prepare(data: bytes, shorter_side_px: int, max_pixels: int) -> tuple[bool, bytes]:
    try:
        if image_opening.pixel_count(data) > max_pixels:
            return (
                False,
                f"has more than {max_pixels // 1_000_000} million pixels; choose a smaller one".encode(),
            )
        return True, image_preparation.prepare(data, shorter_side_px).replacement or _uncompressed(
            decoding.decode(data)
        )
    except BadImage as error:
        return False, str(error).encode()
    except MemoryError:
        return False, b"needs more memory than a picture may take; choose a smaller one"


def _uncompressed(rgb: Image.Image) -> bytes:
    """The same pixels in a file that is quick to decode."""
    buffer = io.BytesIO()
    rgb.save(buffer, "PPM")
    return buffer.getvalue()


def _end_with_parent() -> None:
    """Ends this process once the server has ended, which alone closes the other end of stdin."""
    parent = select.poll()
    parent.register(sys.stdin, 0)  # waits for that only; `main` reads what is sent
    parent.poll()
    os._exit(1)


def _bound_memory(size: int) -> None:
    """Limits this process to `size` bytes more than it uses now, on systems that can."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    with suppress(EOFError):
        main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
