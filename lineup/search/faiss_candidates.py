"""The candidates of a ranking: the images that FAISS finds, and a bound on the scores of all others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import faiss
import numpy as np

from lineup.search import faiss_vectors
from lineup.search.vectors import Positions, Vectors

# Candidates beyond k: with a few more, a query rarely needs a second search.
MARGIN = 8
# Limits on memory: the candidates of the queries that are ranked together, and the bytes of their decoded
# vectors where the index does not store float32.
_CANDIDATES_IN_MEMORY = 2**21
_DECODED_BYTES_IN_MEMORY = 2**26
_blas_threshold_lock = threading.Lock()


def find(index: faiss.Index, queries: Vectors, depth: int) -> tuple[Positions, Vectors]:
    """The candidates of each query, and a bound on the scores of all other images.

    Returns:
        Positions int64 [Q, depth], and float32 [Q]: no other image has a higher score, up to rounding.
    """
    if depth == index.ntotal and isinstance(index, faiss.IndexFlatCodes):
        return np.tile(np.arange(depth), (len(queries), 1)), np.full(len(queries), -np.inf, np.float32)
    with _without_matrix_product() if faiss.try_extract_index_ivf(index) is not None else nullcontext():
        distances, positions = index.search(queries, depth)
    bound = distances[:, -1] if index.metric_type == faiss.METRIC_INNER_PRODUCT else -distances[:, -1]
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and isinstance(index, faiss.IndexScalarQuantizer):
        # Products count the vectors' lengths, cosines do not.
        shortest, longest = faiss_vectors.length_range(index)
        bound = bound / np.where(bound > 0, shortest, longest).astype(np.float32)
    return positions, bound


@contextmanager
def _without_matrix_product() -> Iterator[None]:
    """Makes FAISS compute distances pair by pair.

    With a matrix product, the other queries of a batch would change which lists of an inverted file a query
    searches.
    """
    with _blas_threshold_lock:  # FAISS has one threshold for all threads
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before


def blocks(index: faiss.Index, queries: Positions, depth: int) -> Iterator[Positions]:
    """The numbers of queries, in blocks whose candidates are held in memory together."""
    entries = (
        _CANDIDATES_IN_MEMORY
        if faiss_vectors.flat_storage(index) is not None
        else min(_CANDIDATES_IN_MEMORY, _DECODED_BYTES_IN_MEMORY // (4 * index.d))
    )
    size = max(1, entries // depth)
    for start in range(0, len(queries), size):
        yield queries[start : start + size]
