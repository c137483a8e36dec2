"""Search, compared with raw FAISS, numpy, usearch and hnswlib on the same vectors with the same threads.

Run: python -m benchmarks.search [exact] [approximate] [single]
Takes about 6 minutes on two cores, one to three for each part.

exact        the k nearest of all queries at once; the ways take turns, and the ratios are those of medians
approximate  recall@k and queries/s, with the same k and queries; hnswlib and usearch have as many links as
             our index
single       one query at a time, as a service has them: from which size on is an approximate index worth its
             loss?
"""

# pyright: reportMissingImports=false
# The extra `bench` installs the libraries that are compared.
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import faiss
import hnswlib
import numpy as np
from usearch.index import Index as UsearchIndex
from usearch.index import MetricKind
from usearch.index import search as usearch_search

from benchmarks import command
from lineup import cli, machine
from lineup.search import approximate, faiss_file, faiss_search, ground_truth, query_time
from lineup.search.gallery import Gallery
from lineup.search.vectors import Batch
from lineup.settings.search import Index

DIM, K, QUERIES, RUNS = 512, 100, 1_000, 5
EXACT_SIZES, APPROXIMATE_SIZE, SINGLE_SIZES = (10_000, 100_000), 20_000, (1_000, 3_000, 10_000, 20_000)
PARTS = ("exact", "approximate", "single")
LINKS = 32
NONE = np.empty((0, 2), np.int64)


def vectors(rows: int, seed: int) -> np.ndarray:
    """Clustered vectors of length 1, float32 [rows, DIM].

    Like embeddings of photos, they vary in some tens of directions much more than in the others.
    """
    random = np.random.default_rng(0)
    centres, directions = (
        random.standard_normal((2_000, 32), np.float32),
        random.standard_normal((32, DIM), np.float32),
    )
    random = np.random.default_rng(seed)
    inner = centres[random.integers(0, len(centres), rows)] + 0.7 * random.standard_normal(
        (rows, 32), np.float32
    )
    drawn = inner @ directions + 0.5 * random.standard_normal((rows, DIM), np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def flat(stored: np.ndarray) -> faiss.IndexFlat:
    index = faiss.IndexFlatIP(DIM)
    index.add(stored)  # type: ignore[call-arg]
    return index


def medians(ways: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """The median seconds of each way. The ways take turns; the first turn warms up and does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name] += [time.perf_counter() - start] if turn else []
    return {name: statistics.median(times) for name, times in taken.items()}


def by_numpy(queries: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The K nearest of each query, in chunks, so that no array of all pairs is held."""
    nearest = []
    for start in range(0, len(queries), 200):
        scores = queries[start : start + 200] @ stored.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        nearest.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(nearest)


def measure_exact(rows: int, queries: np.ndarray) -> None:
    stored = vectors(rows, 1)
    index = flat(stored)
    ways = {
        "ours": lambda: faiss_search.nearest(index, queries, K, NONE),
        "faiss": lambda: index.search(queries, K),
        "numpy": lambda: by_numpy(queries, stored),
    }
    seconds = medians({name: ways[name] for name in ("ours", "faiss")}, 2 * RUNS + 1)
    seconds |= medians({"numpy": ways["numpy"]}, 3)
    start = time.perf_counter()
    usearch_search(stored, queries, K, MetricKind.IP, exact=True, threads=machine.threads())
    seconds["usearch"] = time.perf_counter() - start
    print(f"exact, {rows:,} x {DIM}, {len(queries):,} queries, k={K}")
    for name, taken in seconds.items():
        ratio = f"ours is {taken / seconds['ours']:5.2f} times as fast"
        print(f"  {name:8} {taken:7.3f} s  {len(queries) / taken:8,.0f} queries/s  {ratio}")


def measure_approximate(queries: np.ndarray) -> None:
    stored = vectors(APPROXIMATE_SIZE, 1)
    ids = [str(i) for i in range(len(stored))]
    truth, _ = faiss_search.nearest(flat(stored), queries, K, NONE)
    print(f"approximate, {APPROXIMATE_SIZE:,} x {DIM}, {len(queries):,} queries, k={K}")

    def report(name: str, way: Callable[[], np.ndarray]) -> None:
        taken = medians({name: way}, 3)[name]
        recall = ground_truth.recall(way(), truth, K)
        print(f"  {name:44} recall@{K} {recall:.3f}  {len(queries) / taken:8,.0f} queries/s", flush=True)

    def batches() -> Iterator[Batch]:
        yield ids, stored

    gallery = Gallery("cosine", len(stored), DIM, batches, "here")
    for chosen in (
        {"index": "hnsw"},
        {"index": "hnsw", "storage": "int8"},
        {"index": "ivf"},
        {"index": "ivfpq"},
    ):
        for target in (0.9, 0.99) if chosen in ({"index": "hnsw"}, {"index": "ivf"}) else (0.95,):
            start = time.perf_counter()
            settings = Index(recall_target=target, **chosen)  # type: ignore[arg-type]
            built = approximate.build(settings, gallery, K, "")
            seconds = time.perf_counter() - start
            name = " ".join([*chosen.values(), *(f"{k}={v}" for k, v in built.setup.parameters.items())])
            size = faiss_file.size(built.index) / 1e6
            tuned = f"{size:.0f} MB, tuned {built.setup.tuned_recall:.3f}"
            print(f"  ours, target {target}: built and tuned in {seconds:.0f} s, {tuned}")
            report(
                f"ours, {name}", lambda index=built.index: faiss_search.nearest(index, queries, K, NONE)[0]
            )
            report("  the same index, raw faiss", lambda index=built.index: index.search(queries, K)[1])
    start = time.perf_counter()
    theirs = hnswlib.Index("ip", DIM)
    theirs.init_index(len(stored), M=LINKS, ef_construction=40, random_seed=0)
    theirs.add_items(stored, num_threads=machine.threads())
    print(f"  hnswlib: built in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    third = UsearchIndex(ndim=DIM, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=40)
    third.add(np.arange(len(stored)), stored, threads=machine.threads())
    print(f"  usearch: built in {time.perf_counter() - start:.0f} s")
    for width in (K, 2 * K, 4 * K):
        theirs.set_ef(width)
        report(
            f"hnswlib ef={width}",
            lambda: theirs.knn_query(queries, K, num_threads=machine.threads())[0].astype(np.int64),
        )
        third.expansion_search = width
        report(
            f"usearch ef={width}",
            lambda: third.search(queries, K, threads=machine.threads()).keys.astype(np.int64),
        )


def single(queries: np.ndarray) -> None:
    print(f"one query at a time, ms; k={K}")
    for rows in SINGLE_SIZES:
        stored = vectors(rows, 1)

        def batches(stored: np.ndarray = stored) -> Iterator[Batch]:
            yield [str(i) for i in range(len(stored))], stored

        gallery = Gallery("cosine", rows, DIM, batches, "here")
        times = [f"flat {query_time.query_ms(flat(stored), queries, K):.3f}"]
        for kind in ("hnsw", "ivf"):
            built = approximate.build(Index(index=kind), gallery, K, "")
            times.append(f"{kind} {query_time.query_ms(built.index, queries, K):.3f}")
        print(f"  {rows:7,} images: {', '.join(times)}", flush=True)


def main() -> None:
    parser = command.parser("search")
    parser.add_argument("parts", nargs="*", type=command.one_of(*PARTS), default=list(PARTS))
    parts = parser.parse_args().parts
    faiss.omp_set_num_threads(machine.threads())
    libraries = ("faiss-cpu", "numpy", "usearch", "hnswlib")
    print(
        f"{machine.cpu_name()}, {machine.threads()} threads; "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
    )
    queries = vectors(QUERIES, 2)
    for rows in EXACT_SIZES if "exact" in parts else ():
        measure_exact(rows, queries)
    if "approximate" in parts:
        measure_approximate(queries)
    if "single" in parts:
        single(queries)


if __name__ == "__main__":
    cli.run(main)
