"""How long FAISS searches for one query."""

from __future__ import annotations

import time

import faiss
import numpy as np

from lineup.search.vectors import Vectors


def query_ms(
    index: faiss.Index, queries: Vectors, k: int, sample: int = 200, most_seconds: float = 10.0
) -> float:
    """Mean wall milliseconds in which FAISS alone searches for one query, after a warm-up.

    Measured over `sample` queries, or over as many as `most_seconds` allow.
    """
    picked = queries[np.linspace(0, len(queries) - 1, min(sample, len(queries))).astype(int)]
    k = min(k, index.ntotal)
    warm_up = (picked[:10], most_seconds / 10)
    for some, seconds in (warm_up, (picked, most_seconds)):
        done, taken, start = 0, 0.0, time.perf_counter()
        while done < len(some) and taken < seconds:
            index.search(some[done : done + 1], k)
            done, taken = done + 1, time.perf_counter() - start
    return taken * 1000 / done
