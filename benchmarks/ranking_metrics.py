"""Lineup's metrics and those of ranx, pytorch-metric-learning and torchmetrics: equal values, then the time.

Run: python -m benchmarks.ranking_metrics
Takes about 2 minutes on two cores.
There are 10,000 queries. Rankings are 100 deep and hold all of a query's 1 to 20 relevant images, since
torchmetrics counts no others. ranx and torchmetrics get their own data structures ready-made, so that only
the evaluation is timed.
"""

# pyright: reportMissingImports=false
# The extra `bench` installs the libraries that are compared.
from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import ranx
import torch
from pytorch_metric_learning.utils import accuracy_calculator
from torchmetrics import retrieval

from benchmarks import command
from lineup import cli, machine
from lineup.evaluation import metrics

QUERIES, DEPTH, CUTOFF, RUNS = 10_000, 100, 10, 5
Values = dict[str, float]


def rankings() -> tuple[np.ndarray, np.ndarray]:
    """Random rankings, as relevant: bool [QUERIES, DEPTH] by rank, and total: int [QUERIES]."""
    random = np.random.default_rng(0)
    total = random.integers(1, 21, QUERIES)
    # The square root moves relevant images towards the first ranks.
    keys = random.random((QUERIES, DEPTH)) * np.sqrt(np.arange(1, DEPTH + 1))
    order = np.argsort(np.argsort(keys, axis=1), axis=1)
    return order < total[:, None], total


def ours(relevant: np.ndarray, total: np.ndarray, names: tuple[str, ...]) -> Values:
    measured = {
        "map_at_r": lambda: metrics.map_at_r(relevant, total),
        "r_precision": lambda: metrics.r_precision(relevant, total),
        "mrr": lambda: metrics.mrr(relevant, total),
        "top_1": lambda: metrics.top_k_accuracy(relevant, total, 1),
        "top_10": lambda: metrics.top_k_accuracy(relevant, total, CUTOFF),
        "recall_10": lambda: metrics.recall_at_k(relevant, total, CUTOFF),
        "precision_10": lambda: metrics.precision_at_k(relevant, total, CUTOFF),
        "map_100": lambda: metrics.map_at_k(relevant, total, DEPTH),
        "ndcg_10": lambda: metrics.ndcg_at_k(relevant, total, CUTOFF),
    }
    return {name: float(measured[name]().mean()) for name in names}


def by_ranx(relevant: np.ndarray, total: np.ndarray) -> tuple[Callable[[], Values], tuple[str, ...]]:
    names = {
        "r_precision": "r-precision",
        "mrr": "mrr",
        "top_10": "hit_rate@10",
        "recall_10": "recall@10",
        "precision_10": "precision@10",
        "map_100": "map@100",
        "ndcg_10": "ndcg@10",
    }
    judged = {str(q): {str(d): 1 for d in np.flatnonzero(row)} for q, row in enumerate(relevant)}
    ranked = {str(q): {str(d): float(DEPTH - d) for d in range(DEPTH)} for q in range(QUERIES)}
    qrels, run = ranx.Qrels(judged), ranx.Run(ranked)

    def evaluate() -> Values:
        values: Any = ranx.evaluate(qrels, run, list(names.values()))
        return {name: float(values[theirs]) for name, theirs in names.items()}

    return evaluate, tuple(names)


def by_pytorch_metric_learning(
    relevant: np.ndarray, total: np.ndarray
) -> tuple[Callable[[], Values], tuple[str, ...]]:
    # R follows from the number of images with a query's label; here the label is R itself.
    labels = torch.from_numpy(total)[:, None]
    nearest = torch.from_numpy(np.where(relevant, total[:, None], 0))  # labels of the images by rank
    counts = torch.arange(1, 21)[:, None], torch.arange(1, 21)
    of_library: Any = accuracy_calculator  # its functions are annotated with other types than they return

    def evaluate() -> Values:
        at_r = (nearest, labels, False, counts, False, False, torch.eq)
        return {
            "map_at_r": float(of_library.mean_average_precision(*at_r, at_r=True)),
            "r_precision": float(of_library.r_precision(*at_r)),
            "mrr": float(of_library.mean_reciprocal_rank(nearest, labels, False, False, torch.eq)),
            "top_1": float(of_library.precision_at_k(nearest, labels, 1, False, False, torch.eq)),
        }

    return evaluate, ("map_at_r", "r_precision", "mrr", "top_1")


def by_torchmetrics(relevant: np.ndarray, total: np.ndarray) -> tuple[Callable[[], Values], tuple[str, ...]]:
    target = torch.from_numpy(relevant.ravel())
    scores = torch.from_numpy(np.tile(np.linspace(1, 0.5, DEPTH, dtype=np.float32), QUERIES))
    queries = torch.arange(QUERIES).repeat_interleave(DEPTH)
    theirs = {
        "mrr": retrieval.RetrievalMRR(),
        "top_10": retrieval.RetrievalHitRate(top_k=CUTOFF),
        "recall_10": retrieval.RetrievalRecall(top_k=CUTOFF),
        "precision_10": retrieval.RetrievalPrecision(top_k=CUTOFF),
        "map_100": retrieval.RetrievalMAP(top_k=DEPTH),
        "ndcg_10": retrieval.RetrievalNormalizedDCG(top_k=CUTOFF),
    }

    def evaluate() -> Values:
        return {name: float(metric(scores, target, indexes=queries)) for name, metric in theirs.items()}

    return evaluate, tuple(theirs)


def seconds(run: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    command.parser("ranking_metrics").parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(machine.threads())
    libraries = ("numpy", "ranx", "pytorch-metric-learning", "torchmetrics", "torch")
    print(
        f"{machine.cpu_name()}, {machine.threads()} threads; "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
    )
    relevant, total = rankings()
    print(f"{QUERIES:,} queries x {DEPTH}, median of {RUNS} (torchmetrics: of 1)")
    makers = {
        "ranx": by_ranx,
        "pytorch-metric-learning": by_pytorch_metric_learning,
        "torchmetrics": by_torchmetrics,
    }
    for library, make in makers.items():
        evaluate, names = make(relevant, total)
        theirs, own = evaluate(), ours(relevant, total, names)  # also compiles and warms up
        for name in names:
            assert abs(theirs[name] - own[name]) < 1e-5, (library, name, theirs[name], own[name])
        slow, fast = (
            seconds(evaluate, 1 if library == "torchmetrics" else RUNS),
            seconds(lambda n=names: ours(relevant, total, n), RUNS),
        )
        times = f"{slow * 1000:9.1f} ms  ours {fast * 1000:6.1f} ms  ratio {slow / fast:6.1f}"
        print(f"{library:24} {times}  {', '.join(names)}", flush=True)
    every = seconds(lambda: metrics.per_query(relevant, total, (1, 5, 10)), RUNS)
    print(f"all of Lineup's metrics at 1, 5, 10: {every * 1000:.1f} ms")


if __name__ == "__main__":
    cli.run(main)
