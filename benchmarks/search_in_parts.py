"""A gallery searched in parts against the same gallery in one piece: seconds, peak memory, and equal bytes.

Run: python -m benchmarks.search_in_parts [--photos 200000] [--part-rows 50000] [--dim 512] [--queries 1000]
         [--index flat|hnsw|ivf] [--turns 3] [--cluster]
Takes about 3 minutes on two cores, and needs Linux. A million photos (--photos 1000000 --part-rows 100000)
take 10 minutes, 2.2 GB of memory and 4.3 GB of the temporary folder.

Both ways take turns, each search in a process of its own, and a ratio is that of a turn's two figures: of
the seconds and, as other work on the machine hardly touches it, of the processor's seconds. They count
reading and searching, without the start of Python; the measurement of single queries is left out.
--cluster adds a turn on a Ray cluster of this machine (RAY_ADDRESS=local).
Peak memory counts the pages of a mapped file, which the system takes back when it needs them; "anonymous"
leaves them out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command
from lineup import cli, machine
from lineup.search import flat_index, parted_build
from lineup.search.gallery import Gallery
from lineup.search.vectors import Batch, prepare_vectors
from lineup.settings.search import Index

ROOT = Path(__file__).resolve().parent.parent
K, VECTORS_PER_BATCH, VECTORS_PER_LABEL = 100, 8_192, 50


class Measured(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float
    anonymous_mb: float
    digest: str


def vectors(count: int, dim: int, labels: int, seed: int) -> Iterator[np.ndarray]:
    """Clustered vectors, float32 [n, dim] each; every hundredth is that of its neighbour, so that scores tie.

    Like embeddings of photos, they vary in some tens of directions much more than in the others.
    """
    random = np.random.default_rng(0)
    centres, directions = (
        random.standard_normal((labels, 32), np.float32),
        random.standard_normal((32, dim), np.float32),
    )
    random = np.random.default_rng(seed)
    for start in range(0, count, VECTORS_PER_BATCH):
        size = min(VECTORS_PER_BATCH, count - start)
        inner = centres[random.integers(0, labels, size)] + 0.7 * random.standard_normal(
            (size, 32), np.float32
        )
        drawn = inner @ directions + 0.5 * random.standard_normal((size, dim), np.float32)
        drawn[1::100] = drawn[: len(drawn[1::100]) * 100 : 100]
        yield drawn


def gallery(photos: int, dim: int) -> Gallery:
    def batches() -> Iterator[Batch]:
        start = 0
        for drawn in vectors(photos, dim, max(2, photos // VECTORS_PER_LABEL), 1):
            yield [f"{start + i}" for i in range(len(drawn))], drawn
            start += len(drawn)

    return Gallery("cosine", photos, dim, batches, "here")


_SEARCH = """
import hashlib, json, sys, threading, time
from pathlib import Path
import faiss, numpy as np
from lineup import machine
from lineup.search import index_file, part_search, query_time
path, queries, photos, part_rows, k = sys.argv[1:]
faiss.omp_set_num_threads(machine.threads())
query_time.query_ms = lambda *arguments, **options: 0.0
queries = np.load(queries)
peak = 0
def kilobytes(name):
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(name)).split()[1])
def anonymous():
    global peak
    while True:
        peak = max(peak, kilobytes("RssAnon"))
        time.sleep(0.01)
threading.Thread(target=anonymous, daemon=True).start()
start, busy = time.perf_counter(), time.process_time()
file = index_file.open_file(Path(path), "cosine", int(photos), int(part_rows) or None)
ranked, costs = part_search.search(file, queries, int(k), np.empty((0, 2), np.int64))
seconds, busy = time.perf_counter() - start, time.process_time() - busy
digest = hashlib.sha256(ranked.positions.tobytes() + ranked.scores.tobytes()).hexdigest()
print(json.dumps([seconds, busy, kilobytes("VmHWM") * 1024 / 1e6, peak * 1024 / 1e6, digest]))
"""


def measure(path: Path, queries: Path, photos: int, part_rows: int, address: str = "") -> Measured:
    """Searches in a process of its own; part_rows: 0 for one piece."""
    arguments = [str(path), str(queries), str(photos), str(part_rows), str(K)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
    done = subprocess.run(
        [sys.executable, "-c", _SEARCH, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the search ended with {done.returncode}\n{done.stderr}")
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def report(name: str, one: Measured) -> None:
    memory = f"peak {one.peak_mb:5,.0f} MB, anonymous {one.anonymous_mb:5,.0f} MB"
    print(f"  {name:12} {one.seconds:7.2f} s  {one.cpu_seconds:7.2f} CPU s  {memory}", flush=True)


def main() -> None:
    parser = command.parser("search_in_parts")
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--part-rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--index", default="flat", choices=("flat", "hnsw", "ivf"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cluster", action="store_true")
    asked = parser.parse_args()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "numpy"))
    print(f"{machine.cpu_name()}, {machine.threads()} threads; {libraries}")
    with tempfile.TemporaryDirectory() as name:
        run(
            asked.photos,
            asked.part_rows,
            asked.dim,
            asked.queries,
            asked.index,
            asked.turns,
            asked.cluster,
            Path(name),
        )


def run(
    photos: int, part_rows: int, dim: int, queries: int, kind: str, turns: int, on_cluster: bool, folder: Path
) -> None:
    images, asked, parted = gallery(photos, dim), folder / "queries.npy", folder / "parts.faiss"
    drawn = np.concatenate([*vectors(queries, dim, max(2, photos // VECTORS_PER_LABEL), 2)])
    np.save(asked, prepare_vectors("cosine", [""] * queries, drawn, "here"))
    whole = folder / "whole.faiss"
    if kind == "flat":
        flat_index.build_file(whole, "cosine", dim, photos, images.batches(), "here")
        parted = whole
    else:
        for path, rows in ((whole, None), (parted, part_rows)):
            setup = parted_build.build_file(path, Index.model_validate({"index": kind}), images, K, "", rows)
            print(f"  built {path.stem}: {setup.as_json()}", flush=True)
    ways = {"one piece": (whole, 0, ""), "parts": (parted, part_rows, "")}
    if on_cluster:
        ways["on Ray"] = (parted, part_rows, "local")
    sizes = f"{photos:,} x {dim}, {queries:,} queries, k={K}, {kind}, parts of {part_rows:,} or fewer"
    print(f"{sizes}; index file {whole.stat().st_size / 1e6:,.0f} MB")
    ratios: dict[str, list[float]] = {"seconds": [], "CPU seconds": []}
    for _ in range(turns):
        turn = {
            name: measure(path, asked, photos, rows, address) for name, (path, rows, address) in ways.items()
        }
        for name, measured in turn.items():
            report(name, measured)
        if kind == "flat":
            assert len({measured.digest for measured in turn.values()}) == 1, "the rankings differ"
        one, other = turn["one piece"], turn["parts"]
        ratios["seconds"].append(other.seconds / one.seconds)
        ratios["CPU seconds"].append(other.cpu_seconds / one.cpu_seconds)
    for name, values in ratios.items():
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"in parts: {statistics.median(values):.2f} times the {name} ({spread})")
    if kind == "flat":
        print("every ranking has the same bytes")


if __name__ == "__main__":
    cli.run(main)
