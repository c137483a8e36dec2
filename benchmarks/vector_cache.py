"""Looking up 1,000,000 images in the local cache and reading their vectors: seconds and peak memory.

Run: python -m benchmarks.vector_cache [images]
Takes about 1 minute on two cores, and needs Linux and 2 GB of the temporary folder.
A fresh process does what embed does if every vector is cached: it checks the files, looks up all ids, and
reads all vectors (512 floats each) in order.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from lineup import cli, machine
from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import VectorCache

IMAGES, DIM = 1_000_000, 512
VECTORS_AT_ONCE = 8_192  # as embed reads them
MOST_SECONDS = 60.0


def ids(count: int) -> vector_cache.Ids:
    """The ids of images that do not exist: S32 [count], in no order."""
    return vector_cache.raw_ids(
        hashlib.sha256(number.to_bytes(8, "big")).hexdigest() for number in range(count)
    )


def fill(folder: Path, count: int) -> None:
    """Fills a cache as that many batches would; each vector begins with its image's number."""
    cache, known, random = VectorCache(folder, DIM), ids(count), np.random.default_rng(0)
    for start in range(0, count, VECTORS_AT_ONCE):
        some = known[start : start + VECTORS_AT_ONCE]
        vectors = random.random((len(some), DIM), np.float32)
        vectors[:, 0] = np.arange(start, start + len(some))
        cache.add(some, vectors)
    cache.merge()


def look_up(folder: Path, count: int) -> dict[str, Any]:
    """Times opening the cache, looking up and reading. Memory in MB is that before opening, and the peak."""
    known = ids(count)
    order = np.argsort(known, kind="stable")
    wanted, before = known[order], machine.peak_memory_mb()
    start = time.perf_counter()
    cache = VectorCache(folder, DIM)
    opened = time.perf_counter()
    assert cache.has(wanted).all()
    looked = time.perf_counter()
    for begin in range(0, count, VECTORS_AT_ONCE):
        vectors = cache.read(wanted[begin : begin + VECTORS_AT_ONCE])
        assert np.array_equal(vectors[:, 0], order[begin : begin + VECTORS_AT_ONCE].astype(np.float32))
    read = time.perf_counter()
    times = {
        "open": opened - start,
        "look_up": looked - opened,
        "read": read - looked,
        "seconds": read - start,
    }
    return {**times, "memory_before": before, "peak_memory": machine.peak_memory_mb()}


def measure(count: int = IMAGES) -> dict[str, Any]:
    """Runs `look_up` in a process of its own, so that the memory for filling the cache does not count."""
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), count)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.vector_cache", str(count), name],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def summary(measured: dict[str, Any], count: int = IMAGES) -> str:
    """What `measure` returned, as one line."""
    names = {"checking the files": "open", "looking up": "look_up", "reading": "read"}
    parts = ", ".join(f"{name} {measured[part]:.1f}" for name, part in names.items())
    memory = f"peak memory {measured['peak_memory']:,.0f} MB ({measured['memory_before']:,.0f} MB before)"
    return f"{count:,} ids x {DIM} floats: {measured['seconds']:.1f} s ({parts}), {memory}"


def main() -> None:
    parser = command.parser("vector_cache")
    parser.add_argument("images", nargs="?", type=int, default=IMAGES)
    parser.add_argument("filled", nargs="?", type=Path)  # a cache that `measure` has filled, for `look_up`
    asked = parser.parse_args()
    if asked.filled:
        print(json.dumps(look_up(asked.filled, asked.images)))
    else:
        print(summary(measure(asked.images), asked.images))


if __name__ == "__main__":
    cli.run(main)
