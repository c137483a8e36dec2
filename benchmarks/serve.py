"""`lineup serve` under load: queries a second and waiting times of 1, 8 and 32 clients, and its memory.

Run: python -m benchmarks.serve [--project FOLDER] [--row NAME] [--photos FOLDER] [--queries 10000]
Takes about 4 minutes on two cores.
The project must have run to its end, such as the demo's (`make demo`). Clients upload photos over HTTP, one
after the other: those of a folder, or the project's own queries. Each client has an address of its own
(127.0.0.2 and on, which Linux has), as the server gives each address its share. They run on the server's
cores. Numbers of clients take turns, and each is compared with one client of the same turn.

Then 8 clients ask --queries times. Memory is that of the server and of its decoding processes, and its growth
is the slope of a line through the second half.
"""

from __future__ import annotations

import http.client
import itertools
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks import command
from lineup import cli, machine, paths
from lineup.errors import UserError
from lineup.photos import decoding, image_opening

CLIENTS = (1, 8, 32)
TURNS = 3
SECONDS_PER_NUMBER = 12.0
MOST_PHOTOS = 800
WARM_UP_QUERIES = 200
CLIENTS_OF_THE_LONG_RUN = 8
QUERIES_PER_LOOK = 250
_BUSY_TIMES = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Server:
    """A running `lineup serve`, and the row that is asked."""

    process: psutil.Process
    address: tuple[str, int]
    row: str

    def family(self) -> list[psutil.Process]:
        """The server and the processes that decode for it."""
        return [self.process, *self.process.children(recursive=True)]

    def memory_mb(self) -> float:
        """What they hold in memory, without what they share with others, in units of 10^6 bytes."""
        return sum(process.memory_full_info().uss for process in self.family()) / 1e6

    def processor_seconds(self) -> float:
        """Of the server and its decoding processes so far."""
        times = [process.cpu_times() for process in self.family()]
        return sum(each.user + each.system for each in times)


@dataclass(frozen=True)
class Answered:
    """Queries. milliseconds: that each client waited for each; others: cores that other programs used."""

    milliseconds: list[float]
    seconds: float
    others: float

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds


@contextmanager
def serving(project: Path, row: str) -> Iterator[Server]:
    """`lineup serve` in a process of its own, after the row is loaded."""
    program = [sys.executable, "-m", "lineup", "serve", "--row", row, "--port", "0"]
    with subprocess.Popen(program, cwd=project, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout
            line = next((line for line in started.stdout if line.startswith("search page: ")), None)
            if line is None:
                raise UserError(f"{project}: `lineup serve --row {row}` ended; the reason is above")
            url = urlsplit(line.split()[2])
            assert url.hostname and url.port
            yield Server(psutil.Process(started.pid), (url.hostname, url.port), row)
        finally:
            started.terminate()


def query_photos(folder: Path) -> list[bytes]:
    """The files of a folder that can be decoded, at most MOST_PHOTOS. UserError if there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    picked = np.unique(np.linspace(0, len(files) - 1, min(MOST_PHOTOS, len(files))).astype(int))
    good = [photo for number in picked if _decodes(photo := files[number].read_bytes())]
    if not good:
        raise UserError(f"{folder}: holds no photo; run `make demo`, or name another folder by --photos")
    return good


def _decodes(photo: bytes) -> bool:
    try:
        decoding.decode(photo)
    except image_opening.BadImage:
        return False
    return True


class Load:
    """Clients that ask one server, each again as soon as it has its answer."""

    def __init__(self, server: Server, photos: Sequence[bytes]) -> None:
        self._server = server
        self._photos = itertools.cycle(photos)
        self._lock = threading.Lock()

    def run(self, clients: int, queries: int | None = None, seconds: float | None = None) -> Answered:
        """Asks so many queries, or as many as so many seconds allow."""
        times: list[float] = []
        tickets = itertools.count() if queries is None else iter(range(queries))
        start, before = time.perf_counter(), self._busy_seconds()
        end = None if seconds is None else start + seconds

        def work(number: int) -> None:
            with self._connected(number) as connection:
                while end is None or time.perf_counter() < end:
                    with self._lock:
                        if next(tickets, None) is None:
                            return
                        photo = next(self._photos)
                    times.append(self._ask(connection, photo))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - start
        everything, ours = (now - then for now, then in zip(self._busy_seconds(), before, strict=True))
        return Answered(times, wall, max(0.0, everything - ours) / wall)

    @contextmanager
    def _connected(self, number: int) -> Iterator[http.client.HTTPConnection]:
        own = (f"127.0.0.{2 + number}", 0) if sys.platform == "linux" else None
        connection = http.client.HTTPConnection(*self._server.address, timeout=120, source_address=own)
        try:
            yield connection
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, photo: bytes) -> float:
        """Milliseconds until the answer has arrived."""
        start = time.perf_counter()
        connection.request("POST", f"/search/photo?row={self._server.row}&k=10", photo)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise UserError(f"lineup serve: answered {answer.status}: {content.decode()}")
        return (time.perf_counter() - start) * 1000

    def _busy_seconds(self) -> tuple[float, float]:
        """Seconds of all cores so far, and those of the server and the clients."""
        used = psutil.cpu_times()
        everything = sum(getattr(used, kind, 0.0) for kind in _BUSY_TIMES)
        return everything, self._server.processor_seconds() + time.process_time()


def measure_clients(load: Load) -> None:
    """Prints queries a second and waiting times of each number of clients."""
    turns: dict[int, list[Answered]] = {clients: [] for clients in CLIENTS}
    for _ in range(TURNS):
        for clients, answered in turns.items():
            answered.append(load.run(clients, seconds=SECONDS_PER_NUMBER))
    print("clients  queries/s (least-most)  of one client's   p50 ms   p95 ms   cores used by others")
    for clients, answered in turns.items():
        speeds = [each.per_second for each in answered]
        ratios = [each.per_second / one.per_second for each, one in zip(answered, turns[1], strict=True)]
        p50, p95 = (
            statistics.median(float(np.percentile(each.milliseconds, share)) for each in answered)
            for share in (50, 95)
        )
        span = f"{statistics.median(speeds):8.1f} ({min(speeds):.1f}-{max(speeds):.1f})"
        others = ", ".join(f"{each.others:.1f}" for each in answered)
        print(
            f"{clients:7}  {span:22}  {statistics.median(ratios):15.2f}   {p50:6.1f}   {p95:6.1f}   {others}",
            flush=True,
        )


def measure_memory(load: Load, server: Server, queries: int) -> None:
    """Prints what the server holds before and after many queries, and how fast that grows."""
    asked, memory = [0], [server.memory_mb()]
    start = time.perf_counter()
    while asked[-1] < queries:
        load.run(CLIENTS_OF_THE_LONG_RUN, queries=min(QUERIES_PER_LOOK, queries - asked[-1]))
        asked.append(min(asked[-1] + QUERIES_PER_LOOK, queries))
        memory.append(server.memory_mb())
    half = len(asked) // 2
    slope = np.polyfit(asked[half:], memory[half:], 1)[0] * 1000
    print(
        f"\n{queries:,} queries of {CLIENTS_OF_THE_LONG_RUN} clients in {time.perf_counter() - start:.0f} s: "
        f"{memory[0]:.1f} MB before, {memory[half]:.1f} MB halfway, {memory[-1]:.1f} MB after; "
        f"in the second half {slope:+.3f} MB per 1,000 queries"
    )


def main() -> None:
    parser = command.parser("serve")
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--row", default="arcface")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--queries", type=int, default=10_000)
    options = parser.parse_args()
    photos = query_photos(options.photos or options.project / paths.RAW / "test" / "query")
    with serving(options.project, options.row) as server:
        load = Load(server, photos)
        load.run(1, queries=WARM_UP_QUERIES)
        size = statistics.median(map(len, photos)) / 1000
        print(
            f"{machine.cpu_name()}, {machine.threads()} threads, load average {os.getloadavg()[0]:.1f}; "
            f"{options.row}, {len(photos)} photos of {size:.0f} kB each (median)\n"
        )
        measure_clients(load)
        load.run(CLIENTS_OF_THE_LONG_RUN, queries=WARM_UP_QUERIES)
        measure_memory(load, server, options.queries)


if __name__ == "__main__":
    cli.run(main)
