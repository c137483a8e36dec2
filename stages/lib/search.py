"""Exact nearest neighbours with FAISS, in an order that depends on the vectors alone.

FAISS finds candidates with a matrix product, whose last bits vary with the shape of the product and the number of
threads. The candidates' scores are therefore computed again, pair by pair, and equal ones are ordered by image_id.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from stages.lib import tables
from stages.lib.errors import UserError

Metric = Literal["cosine", "l2"]
Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

_MARGIN = 16  # candidates beyond k, so that a query rarely needs a second search
_ENTRIES = 2**21  # candidates held at once, of all queries together
_LARGEST_NORM = 1e18  # squared distances stay within float32


def build(metric: Metric, dim: int, rows: int, batches: Iterable[tuple[list[str], Vectors]], place: str) -> faiss.IndexFlat:
    """A flat index of `rows` vectors, float32 [n, dim] a batch; holds each vector once.

    cosine: inner product of L2-normalised vectors; l2: squared distance of the vectors as they are.
    UserError names the image whose vector can't be searched, and `place`, where it was read.
    """
    index = faiss.IndexFlatIP(dim) if metric == "cosine" else faiss.IndexFlatL2(dim)
    index.codes.resize(rows * index.code_size)  # adding batch by batch would move and hold them twice
    stored = stored_vectors(index, rows)
    done = 0
    for ids, vectors in batches:
        stored[done : done + len(ids)] = prepare(metric, ids, vectors, place)
        done += len(ids)
    assert done == rows, f"{done} vectors came, {rows} were announced"
    index.ntotal = rows
    return index


def stored_vectors(index: faiss.IndexFlat, rows: int) -> Vectors:
    """The index's own memory as float32 [rows, D]; valid as long as the index is."""
    if rows == 0:
        return np.empty((0, index.d), np.float32)
    return faiss.rev_swig_ptr(index.get_xb(), rows * index.d).reshape(rows, index.d)


def prepare(metric: Metric, ids: list[str] | npt.NDArray[np.str_], vectors: Vectors, place: str) -> Vectors:
    """The vectors as they're searched, float32 [N, D]: of length 1 for cosine. UserError names a vector that can't be."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    wrong = ~np.isfinite(norms) | (norms > _LARGEST_NORM)
    if metric == "cosine":
        wrong |= norms == 0
    if wrong.any():
        first = int(wrong.argmax())
        fault = "is all zero, which has no direction" if norms[first] == 0 else "holds NaN, infinity or huge values"
        raise UserError(f"{place}: the vector of image {ids[first]} {fault}; check the encoder's weights and run its embed stage again")
    return (vectors / norms[:, None]).astype(np.float32) if metric == "cosine" else np.ascontiguousarray(vectors, np.float32)


def save(path: Path, index: faiss.IndexFlat) -> None:
    def write(temporary: Path) -> None:
        # Not by name: FAISS then takes no notice of a disk that is full when it closes the file.
        with temporary.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))

    tables.replace_atomically(path, write)


def load(path: Path, metric: Metric, gallery: int) -> faiss.IndexFlat:
    """UserError if the file is missing, broken, or of another metric or gallery."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError:
        fault = "isn't a FAISS index" if path.exists() else "is not there"
        raise UserError(f"{path}: {fault}; run `dvc repro`, or `dvc pull` it") from None
    expected = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != expected or index.ntotal != gallery:
        raise UserError(f"{path}: is not a flat {metric} index of {gallery} images; run `dvc repro` to build it again")
    return index


def nearest(index: faiss.IndexFlat, queries: Vectors, k: int, excluded: Positions) -> tuple[Positions, Vectors]:
    """The k best gallery images of each query that aren't excluded, in an order that's independent of how it was found.

    queries: float32 [Q, D], as `prepare` gave them; excluded: int [E, 2] of (query, gallery position).
    Returns positions int64 [Q, K] and scores float32 [Q, K], K = min(k, gallery): cosine similarity or minus the
    squared distance, falling, equal ones by position. A row that ends earlier is filled with -1 and NaN.
    """
    gallery = index.ntotal
    k = min(k, gallery)
    positions = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), np.nan, np.float32)
    banned = np.sort(excluded[:, 0] * gallery + excluded[:, 1])
    slack = _rounding(index, queries)
    waiting = [(np.arange(len(queries)), min(gallery, k + _MARGIN))]
    while waiting:
        rows, depth = waiting.pop()
        for some in _blocks(rows, depth):
            candidates, bound = _candidates(index, queries[some], depth)
            exact = pairwise(index, queries[some], candidates)
            allowed = ~np.isin(some[:, None] * gallery + candidates, banned, kind="sort" if len(banned) else None)
            order = np.lexsort((candidates, -exact, ~allowed), axis=-1)[:, :k]
            found, ranked = np.take_along_axis(candidates, order, axis=1), np.take_along_axis(exact, order, axis=1)
            kept = np.take_along_axis(allowed, order, axis=1)
            positions[some] = np.where(kept, found, -1)
            scores[some] = np.where(kept, ranked, np.nan)
            # What FAISS left out may still belong before the last one found, if it is as near up to rounding.
            open_ended = ~kept[:, -1] | (ranked[:, -1] <= bound + slack[some])
            if depth < gallery and open_ended.any():
                waiting.append((some[open_ended], min(gallery, 2 * depth)))
    return positions, scores


def _blocks(rows: Positions, depth: int) -> Iterator[Positions]:
    size = max(1, _ENTRIES // depth)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _candidates(index: faiss.IndexFlat, queries: Vectors, depth: int) -> tuple[Positions, Vectors]:
    """depth positions per query, int64 [Q, depth], and a score that none of the others surpasses but for rounding, [Q]."""
    if depth == index.ntotal:
        return np.tile(np.arange(depth), (len(queries), 1)), np.full(len(queries), -np.inf, np.float32)
    distances, positions = index.search(queries, depth)
    return positions, distances[:, -1] if index.metric_type == faiss.METRIC_INNER_PRODUCT else -distances[:, -1]


def pairwise(index: faiss.IndexFlat, queries: Vectors, positions: Positions) -> Vectors:
    """Scores of the given pairs, float32 [Q, K]; each is computed alone, so it depends on its two vectors only."""
    scores = np.empty(positions.shape, np.float32)
    queries, positions = np.ascontiguousarray(queries), np.ascontiguousarray(positions)
    inner = index.metric_type == faiss.METRIC_INNER_PRODUCT
    compute = getattr(faiss, "fvec_inner_products_by_idx" if inner else "fvec_L2sqr_by_idx")  # wrapped at run time
    compute(faiss.swig_ptr(scores), faiss.swig_ptr(queries), index.get_xb(), faiss.swig_ptr(positions), index.d, *positions.shape)
    return scores if inner else 0 - scores


def _rounding(index: faiss.IndexFlat, queries: Vectors) -> Vectors:
    """How far FAISS's matrix product may be off, per query, float32 [Q].

    Rounding errors of a sum of D products stay below lambda * sqrt(D) * u * |x||y| (Higham & Mary, 2019), here with
    lambda = 8 for both ways of computing together; FAISS gets squared distances from |x|^2 + |y|^2 - 2xy.
    """
    longest = np.sqrt(max((float(np.einsum("nd,nd->n", b, b).max()) for b in _row_blocks(index)), default=0.0))
    norms = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    size = norms * longest if index.metric_type == faiss.METRIC_INNER_PRODUCT else (norms + longest) ** 2
    return (8 * np.sqrt(index.d) * 2.0**-24 * size).astype(np.float32)


def _row_blocks(index: faiss.IndexFlat) -> Iterator[Vectors]:
    stored = stored_vectors(index, index.ntotal)
    for start in range(0, len(stored), 65_536):
        yield stored[start : start + 65_536]


def query_ms(index: faiss.IndexFlat, queries: Vectors, k: int, sample: int = 200) -> float:
    """Mean wall milliseconds of one search for one query, by FAISS alone, over up to `sample` queries after a warm-up."""
    picked = queries[np.linspace(0, len(queries) - 1, min(sample, len(queries))).astype(int)]
    k = min(k, index.ntotal)
    for query in picked[:10]:
        index.search(query[None], k)
    start = time.perf_counter()
    for query in picked:
        index.search(query[None], k)
    return (time.perf_counter() - start) * 1000 / len(picked)
