"""What the page's server does with work that many clients wait for, and with pictures that are hard to
decode.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fastapi import FastAPI, Request
from PIL import Image

from lineup.photos import decoding, image_preparation
from lineup.photos.image_opening import BadImage
from lineup.serving.decoder import Decoders
from lineup.serving.limits import Limits
from lineup.serving.queues import FairQueue
from lineup.web import security
from lineup.web.limits import Shares
from tests.support import served
from tests.support.project import ROOT

OTHER = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # where it is another client
MAX_SIDE = 512


class Work:
    """Pieces of work that end when they're told to, behind one FairQueue of one thread."""

    def __init__(self) -> None:
        self.queue, self.go_on = FairQueue(1, "test"), threading.Semaphore(0)
        self.asked: list[str] = []  # names in the order in which they came
        self.begun: list[str] = []  # names in the order in which it was their turn
        self.left: list[str] = []

    async def do(self, request: Request, name: str) -> str:
        self.asked.append(name)
        try:
            return await self.queue.run(request, lambda: self._do(name))
        except security.ClientDisconnect:
            self.left.append(name)
            raise

    def _do(self, name: str) -> str:
        self.begun.append(name)
        assert self.go_on.acquire(timeout=60)
        return name


@pytest.fixture
def work() -> Iterator[tuple[Work, str]]:
    work, app = Work(), FastAPI()
    security.report_errors(app)
    app.get("/{name}")(work.do)
    with served.running(app, Limits()) as (url, _):
        yield work, url
        work.go_on.release(100)
        work.queue.close()


def wait(met: Callable[[], object]) -> None:
    assert any(met() or time.sleep(0.02) for _ in range(1_500))


def ask(url: str, name: str, source: str = "127.0.0.1") -> socket.socket:
    return served.connect(
        url, f"GET /{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), source
    )


@pytest.mark.slow
def test_a_client_that_asks_much_does_not_hold_up_the_others(work: tuple[Work, str]) -> None:
    doing, url = work
    many = []
    for name in ("first", "second", "third"):
        many.append(ask(url, name))
        wait(lambda name=name: name in doing.asked)
    other = ask(url, "other", OTHER)
    wait(lambda: "other" in doing.asked and doing.begun)
    doing.go_on.release(4)
    assert [served.answer(connection) for connection in (*many, other)] == [
        (200, name) for name in ("first", "second", "third", "other")
    ]
    assert doing.begun == (
        ["first", "other", "second", "third"]
        if OTHER != "127.0.0.1"
        else ["first", "second", "third", "other"]
    )


@pytest.mark.slow
def test_the_work_of_clients_that_left_never_begins(work: tuple[Work, str]) -> None:
    doing, url = work
    running = ask(url, "running")
    wait(lambda: doing.begun)
    for name, source in (("in_line", "127.0.0.1"), ("in_the_pool", OTHER)):
        with ask(url, name, source):
            wait(lambda name=name: name in doing.asked)
        wait(lambda name=name: name in doing.left)
    last = ask(url, "last")
    wait(lambda: "last" in doing.asked)
    doing.go_on.release(2)
    assert (served.answer(running), served.answer(last)) == ((200, "running"), (200, "last"))
    assert doing.begun == ["running", "last"]


@pytest.mark.slow
def test_a_client_that_leaves_while_it_is_served_does_not_get_a_second_turn_at_once(
    work: tuple[Work, str],
) -> None:
    doing, url = work
    with ask(url, "left"):
        wait(lambda: doing.begun)
    wait(lambda: doing.left)
    second, other = ask(url, "second"), None
    wait(lambda: "second" in doing.asked)
    other = ask(url, "other", OTHER)
    wait(lambda: "other" in doing.asked)
    doing.go_on.release(3)
    assert (served.answer(second), served.answer(other)) == ((200, "second"), (200, "other"))
    assert doing.begun == (
        ["left", "other", "second"] if OTHER != "127.0.0.1" else ["left", "second", "other"]
    )


def test_a_share_is_bounded_for_one_client_and_for_all() -> None:
    shares = Shares(total=5, of_client=3)
    assert shares.take("a", 3) and not shares.take("a")
    assert not shares.take("b", 3) and shares.take("b", 2) and not shares.take("c")
    shares.give("a", 3)
    assert shares.take("c", 3) and not shares.take("a")


# Decoding


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    started = Decoders(Limits(decodings=1), MAX_SIDE)
    yield started
    started.close()


def encoded(mode: str, size: tuple[int, int], kind: str, seed: int = 0, **options: object) -> bytes:
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(seed).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    image = Image.merge(
        mode, [Image.fromarray(noise[..., channel]).resize(size) for channel in range(channels)]
    )
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "size", "kind"),
    [
        ("RGB", (90, 60), "JPEG"),
        ("CMYK", (90, 60), "JPEG"),
        ("RGBA", (60, 90), "PNG"),
        ("L", (1, 1), "PNG"),
        ("RGB", (1_000, 700), "PNG"),
    ],
)
def test_a_picture_is_decoded_as_the_pipeline_does(
    decoders: Decoders, mode: str, size: tuple[int, int], kind: str
) -> None:
    data = encoded(mode, size, kind)
    photo = decoders.prepare(data)
    as_prepared = image_preparation.prepare(data, MAX_SIDE).replacement or data
    assert decoding.decode(photo.content).tobytes() == decoding.decode(as_prepared).tobytes()
    assert photo.image_id == hashlib.sha256(data).hexdigest()


def test_no_bytes_of_strangers_are_decoded_again(decoders: Decoders) -> None:
    """A picture that is hard to decode would hold up all searches."""
    data = encoded("RGB", (90, 60), "JPEG", progressive=True)
    assert image_preparation.prepare(data, MAX_SIDE).replacement is None
    assert Image.open(io.BytesIO(decoders.prepare(data).content)).format == "PPM"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "is empty"), (b"abc", "is not an image"), (encoded("RGB", (90, 60), "PNG")[:-30], "is truncated")],
)
def test_a_bad_picture_is_told_as_the_pipeline_does(decoders: Decoders, data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decoders.prepare(data)


@pytest.mark.slow
def test_a_picture_that_wants_too_much_memory_is_refused() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux says what a process uses, and bounds it")
    frugal = Decoders(Limits(decodings=1, decoding_bytes=50 * 2**20), MAX_SIDE)
    try:
        with pytest.raises(BadImage, match="needs more memory than a picture may take"):
            frugal.prepare(encoded("RGB", (6_000, 6_000), "PNG", compress_level=1))
        assert frugal.prepare(encoded("RGB", (90, 60), "PNG")).content
    finally:
        frugal.close()


@pytest.mark.slow
def test_a_decoder_ends_with_the_server_while_it_decodes() -> None:
    command = [sys.executable, "-m", "lineup.serving.decoder", str(MAX_SIDE), str(10**9), "600", str(2**30)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    data = encoded("L", (6_000, 6_000), "PNG", compress_level=1)
    output, errors = worker.communicate(
        len(data).to_bytes(8, "big") + data, timeout=60
    )  # which closes its stdin then
    assert (output, errors, worker.returncode) == (b"", b"", 1)
