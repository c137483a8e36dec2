"""A small project with several rows computed, and `lineup serve` running on it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image
from starlette.types import ASGIApp

from lineup.commands import group
from lineup.serving import app
from lineup.serving.limits import Limits
from lineup.settings import params
from lineup.web import server as web_server
from stages import embed, fetch, index, preprocess, refine, retrieve, train
from tests.support import hub_repositories, page_server
from tests.support.project import demo_params, write_params
from tests.support.small_encoders import SQUEEZENET

ODD_LABEL = "<!--<script><img src=x onerror=alert(1)>\"'& 🍕"
ODD_PHOTO = f"data/raw/test/gallery/{ODD_LABEL}/<b>x.png"
COPY = "data/raw/test/gallery/large/copy.png"  # of other.jpg, in other bytes
_PAGE = "search page"
COMPUTED = ("mobilenet_v2", "raw_pixels_l2", "clip", "random")
REFINEMENTS: dict[str, dict[str, Any]] = {
    "expanded": {"from": "mobilenet_v2", "with": "mobilenet_v2", "method": "query_expansion", "n": 2},
    "expanded_l2": {
        "from": "mobilenet_v2",
        "with": "raw_pixels_l2",
        "method": "query_expansion",
        "n": 3,
        "alpha": 0,
    },
    "whitened": {"from": "clip", "with": "clip", "method": "whitening", "dim": 8},
    "fused": {"from": "mobilenet_v2", "with": "clip", "method": "reciprocal_rank_fusion", "k": 10},
    "summed": {
        "from": "fused",
        "with": "whitened",
        "method": "score_fusion",
        "weight": 0.3,
    },  # of refinements
    "reranked": {"from": "fused", "with": "whitened", "method": "k_reciprocal", "k1": 4, "k2": 2},
    "of_absent": {"from": "clip", "with": "absent", "method": "score_fusion"},
}


def _rows() -> dict[str, Any]:
    settings = demo_params("mobilenet_v2", "raw_pixels_l2")
    settings["embed"]["engine"] = "auto"  # so that queries are not embedded by torch alone
    models = settings["models"]
    models["random"] = {**models["mobilenet_v2"], "encoder": SQUEEZENET}
    models["clip"] = {
        **models["mobilenet_v2"],
        "encoder": {"library": "transformers", "name": "tiny-clip", "weights": "file:clip"},
    }
    models["absent"] = models["mobilenet_v2"]
    settings["refinements"] = REFINEMENTS
    return settings


def _photo(path: str, width: int, height: int, seed: int, **options: Any) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path, **options)


def build(folder: Path) -> Path:
    """Some emoji, a photo larger than preprocess keeps, one that lies on its side, an odd name.

    Every row but those of `absent`.
    """
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, _rows())
        group.run(["demo", "--identities", "6"])
        sideways = Image.Exif()
        sideways[0x0112] = 6
        _photo("data/raw/test/query/large/holiday.jpg", 1400, 900, 1, quality=90)
        _photo("data/raw/test/query/large/sideways.jpg", 700, 500, 2, quality=90, exif=sideways)
        _photo("data/raw/test/gallery/large/other.jpg", 1300, 900, 3, quality=90)
        Image.open("data/raw/test/gallery/large/other.jpg").save(COPY)
        _photo(ODD_PHOTO, 60, 40, 4)
        hub_repositories.clip(folder / "clip")
        preprocess.main()
        for row in COMPUTED:
            for stage in (fetch, train, embed, index, retrieve):
                stage.main(["--row", row])
        for row in list(REFINEMENTS)[:-1]:
            refine.main(["--row", row])
    return folder


def start(folder: Path, *arguments: str, forks: bool = True) -> subprocess.Popen[str]:
    return page_server.start(folder, "serve", *arguments, forks=forks)


def address(server: subprocess.Popen[str]) -> str:
    return page_server.address(server, _PAGE)


def serving(folder: Path, *arguments: str) -> AbstractContextManager[str]:
    """The address, without a slash at its end. Whatever clients do, the server prints nothing more."""
    return page_server.serving(folder, _PAGE, "serve", "--port", "0", *arguments)


@contextmanager
def running(served: ASGIApp, limits: Limits) -> Iterator[tuple[str, uvicorn.Server]]:
    """An app behind the page's server, in a thread of this process, and its address."""
    with web_server.listen("0.0.0.0" if sys.platform == "linux" else "127.0.0.1", 0) as listener:
        server = web_server.create(served, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(60)


@contextmanager
def serving_here(limits: Limits) -> Iterator[tuple[str, uvicorn.Server]]:
    """The project of the current folder, under limits that a test has time for."""
    with running(app.create(params.load(), "mobilenet_v2", ("localhost",), limits), limits) as (url, server):
        requests.get(url, timeout=60).raise_for_status()
        yield url, server


def connect(url: str, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    """A connection that has sent something. source: the address that the server knows this client by."""
    port = int(url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the server's last answer before it hangs up."""
    received = b""
    with connection:
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.rpartition(b"\r\n\r\n")
    return int(head.rpartition(b"HTTP/1.1 ")[2].split()[0]), json.loads(body)


def upload(size: int, data: bytes = b"", *headers: str) -> bytes:
    """A request to search with a photo, which says that it has `size` bytes."""
    lines = [
        "POST /search/photo?row=mobilenet_v2 HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data
