"""An S3-compatible server on 127.0.0.1: moto's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def running() -> Iterator[str]:
    """The server's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def new_bucket(address: str) -> str:
    """The name of a new, empty bucket."""
    bucket = f"bucket-{os.urandom(4).hex()}"
    put(address, bucket)
    return bucket


def put(address: str, path: str, content: bytes | None = None) -> None:
    """Creates an object, whose path begins with its bucket, or a bucket."""
    headers = {"Content-Type": "application/octet-stream"}  # urllib would announce a form
    request = urllib.request.Request(f"{address}/{path}", data=content, headers=headers, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()
