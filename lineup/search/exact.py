"""Nearest neighbours with FAISS, in an order that depends on the vectors alone.

FAISS finds candidates with a matrix product, whose last bits vary with the shape of the product and the
number of threads. The candidates' scores are therefore computed again, pair by pair, and equal scores are
ordered by image_id.

A flat index of float32 vectors gives an exact search. Any other index (lineup/search/approximate.py builds
those) gives the candidates that it finds, scored by the vectors that it stores. Vectors stored in fewer bits
no longer have length 1; for cosine they are divided by the length that they have.
"""

from __future__ import annotations

import struct
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from lineup.errors import UserError
from lineup.storage import files

Metric = Literal["cosine", "l2"]
Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Batch = tuple[list[str], Vectors]  # ids, and vectors as they were embedded, float32 [n, D]

# Candidates beyond k: with a few more, a query rarely needs a second search.
MARGIN = 8
# Limits on memory: the candidates of the queries that are ranked together, the bytes of their decoded vectors
# where the index does not store float32, and the vectors that are decoded together.
_CANDIDATES_IN_MEMORY = 2**21
_DECODED_BYTES_IN_MEMORY = 2**26
_DECODED_VECTORS = 8_192
_LARGEST_NORM = 1e18  # with it, squared distances still fit into float32
_NO_CANDIDATE = np.uint64(2**64 - 1)  # sorts behind every score and position
_blas_threshold_lock = threading.Lock()
_length_ranges: weakref.WeakKeyDictionary[faiss.Index, tuple[float, float]] = weakref.WeakKeyDictionary()


def build(metric: Metric, dim: int, rows: int, batches: Iterable[Batch], source: str) -> faiss.IndexFlat:
    """A flat index of `rows` vectors; memory holds them once.

    cosine: inner product of L2-normalised vectors. l2: squared distance of the vectors as they are.

    Args:
        source: where the vectors were read, which errors name.
    Raises:
        UserError: the vector of an image cannot be searched.
    """
    index = faiss.IndexFlat(dim, faiss_metric(metric))
    # Reserved at once: adding batch by batch would move the vectors, and hold them twice meanwhile.
    index.codes.resize(rows * index.code_size)
    stored = stored_vectors(index, rows)
    done = 0
    for ids, vectors in batches:
        stored[done : done + len(ids)] = prepare(metric, ids, vectors, source)
        done += len(ids)
    assert done == rows, f"{done} vectors came, {rows} were announced"
    index.ntotal = rows
    return index


def build_file(
    path: Path, metric: Metric, dim: int, rows: int, batches: Iterable[Batch], source: str
) -> None:
    """Writes the file that `save` would write of `build`'s index.

    Holds one batch at a time, so the index may be larger than memory.
    """
    header = bytearray(faiss.serialize_index(faiss.IndexFlat(dim, faiss_metric(metric))).tobytes())
    # FAISS's format begins with four letters for the type, the dimension (4 bytes) and the number of vectors
    # (8 bytes); it ends with the number of floats (8 bytes) and the floats.
    header[8:16], header[-8:] = struct.pack("<q", rows), struct.pack("<Q", rows * dim)

    def write(temporary: Path) -> None:
        done = 0
        with temporary.open("wb") as file:
            file.write(header)
            for ids, vectors in batches:
                file.write(prepare(metric, ids, vectors, source).data)
                done += len(ids)
        assert done == rows, f"{done} vectors came, {rows} were announced"

    files.replace_atomically(path, write)


def faiss_metric(metric: Metric) -> int:
    """FAISS's number for a metric."""
    return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2


def stored_vectors(index: faiss.Index, rows: int) -> Vectors:
    """All vectors of an index, float32 [rows, D].

    A flat index gives its own memory, which is valid as long as the index is; any other gives a decoded copy.
    """
    flat = _flat_storage(index)
    if rows == 0:
        return np.empty((0, index.d), np.float32)
    if flat is None:
        return vectors_at(index, np.arange(rows))
    return faiss.rev_swig_ptr(flat.get_xb(), rows * index.d).reshape(rows, index.d)


def vectors_at(index: faiss.Index, positions: Positions) -> Vectors:
    """Some of an index's vectors as they are compared: positions int64 [...] -> float32 [..., D].

    They are decoded from what the index stores, and have length 1 for cosine. Position -1 gives an arbitrary
    vector.
    """
    valid = np.maximum(positions, 0)
    if _flat_storage(index) is not None:
        return stored_vectors(index, index.ntotal)[valid]
    vectors = _decoded(index, valid.ravel())
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and not _stores_float32(index):
        lengths = _norms(vectors)
        vectors /= np.where(lengths > 0, lengths, 1)[:, None]
    return vectors.reshape(*positions.shape, index.d)


def _decoded(index: faiss.Index, positions: Positions) -> Vectors:
    """Vectors as the index stores them, float32 [n, D]; in fewer than 32 bits their length is not 1."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None and not isinstance(index, faiss.IndexRefine) and lists.direct_map.no():
        lists.make_direct_map()  # from images to lists, 8 bytes per image
    return index.reconstruct_batch(positions)


def _norms(vectors: Vectors) -> Vectors:
    """Each vector's length, float32 [n]; it depends on that vector alone."""
    lengths = np.empty(len(vectors), np.float32)
    faiss.fvec_norms_L2(faiss.swig_ptr(lengths), faiss.swig_ptr(vectors), vectors.shape[1], len(vectors))  # type: ignore[attr-defined]
    return lengths


def _stores_float32(index: faiss.Index) -> bool:
    """Whether an index stores its vectors unchanged."""
    if isinstance(index, faiss.IndexRefine):
        return isinstance(faiss.downcast_index(index.refine_index), faiss.IndexFlat)
    return _flat_storage(index) is not None or isinstance(index, faiss.IndexIVFFlat)


def _flat_storage(index: faiss.Index) -> faiss.IndexFlat | None:
    """The part of an index that stores the vectors unchanged, in the order of the images, if it has one."""
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    return index if isinstance(index, faiss.IndexFlat) else None


def prepare(metric: Metric, ids: list[str] | npt.NDArray[np.str_], vectors: Vectors, source: str) -> Vectors:
    """The vectors as they are searched, float32 [N, D]: of length 1 for cosine, unchanged for l2.

    Raises:
        UserError: a vector cannot be searched; the sentence names its image, and `source`, where it was read.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    wrong = ~np.isfinite(norms) | (norms > _LARGEST_NORM)
    if metric == "cosine":
        wrong |= norms == 0
    if wrong.any():
        first = int(wrong.argmax())
        fault = (
            "is all zero, which has no direction"
            if norms[first] == 0
            else "holds NaN, infinity or huge values"
        )
        raise UserError(
            f"{source}: the vector of image {ids[first]} {fault}; check the encoder's weights and "
            "run its embed stage again"
        )
    return (
        (vectors / norms[:, None]).astype(np.float32)
        if metric == "cosine"
        else np.ascontiguousarray(vectors, np.float32)
    )


def save(path: Path, index: faiss.Index) -> None:
    """Writes an index to a file, which appears as a whole or not at all."""

    def write(temporary: Path) -> None:
        # Through Python's file object: given a name, FAISS ignores that the disk is full when it closes the
        # file.
        with temporary.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    files.replace_atomically(path, write)


def size(index: faiss.Index) -> int:
    """The number of bytes of the file that `save` writes."""
    counted = 0

    def count(part: bytes) -> int:
        nonlocal counted
        counted += len(part)
        return len(part)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
    return counted


def load(path: Path, metric: Metric, gallery: int) -> faiss.Index:
    """An index that is mapped into memory rather than read, so it may be larger than memory.

    Args:
        gallery: how many images the index must hold.
    Raises:
        UserError: the file does not exist, is damaged, or is of another metric or gallery.
    """
    try:
        with path.open("rb") as file:
            lists = file.read(2) == b"Iw"  # an inverted file, which FAISS maps in another way
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if lists else faiss.IO_FLAG_MMAP_IFC)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it") from None
    except RuntimeError:
        raise UserError(f"{path}: is not a FAISS index; run `dvc repro`, or `dvc pull` it") from None
    if index.metric_type != faiss_metric(metric):
        raise UserError(
            f"{path}: was built for another metric than {metric}; run `dvc repro` to build it again"
        )
    if index.ntotal != gallery:
        raise UserError(
            f"{path}: the gallery has changed since it was built, from {index.ntotal:,} images "
            f"to {gallery:,}; run `dvc repro` to go on"
        )
    return index


def nearest(index: faiss.Index, queries: Vectors, k: int, excluded: Positions) -> tuple[Positions, Vectors]:
    """The k best gallery images of each query, without those that are excluded.

    Each query is answered as if it came alone, and the order depends on the vectors only.

    Args:
        queries: float32 [Q, D], as `prepare` returns them.
        excluded: int64 [E, 2] of (query, gallery position).
    Returns:
        Positions int64 [Q, K] and scores float32 [Q, K], K = min(k, gallery). A score is the cosine
        similarity or minus the squared distance; scores fall, and equal ones are ordered by position. Where a
        query has fewer images, or an approximate index finds fewer, the rest is -1 and NaN.
    """
    gallery = index.ntotal
    k = min(k, gallery)
    positions = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), np.nan, np.float32)
    banned = np.sort(excluded[:, 0] * gallery + excluded[:, 1])
    norms = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    waiting = [(np.arange(len(queries)), min(gallery, k + MARGIN))]
    while waiting:
        rows, depth = waiting.pop()
        for some in _blocks(index, rows, depth):
            candidates, bound = _candidates(index, queries[some], depth)
            exact = pairwise(index, queries[some], candidates)
            allowed = (candidates >= 0) & ~_contains(banned, some[:, None] * gallery + candidates)
            best, ranked, filled = _best(candidates, exact, allowed, k)
            positions[some] = np.where(filled, best, -1)
            scores[some] = np.where(filled, ranked, np.nan)
            # An image that FAISS left out may still belong before the last one ranked, if it is as near up to
            # rounding. Such a query is searched deeper.
            more = candidates[:, -1] >= 0
            unsettled = more & (
                ~filled[:, -1] | (ranked[:, -1] <= bound + _rounding(index, norms[some], bound))
            )
            if depth < gallery and unsettled.any():
                waiting.append((some[unsettled], min(gallery, 2 * depth)))
    return positions, scores


def _best(
    candidates: Positions, exact: Vectors, allowed: npt.NDArray[np.bool_], k: int
) -> tuple[Positions, Vectors, npt.NDArray[np.bool_]]:
    """The k best of the allowed candidates, by falling score, equal ones by position.

    A score and its position are sorted as one integer, which numpy does ten times as fast as pairs.

    Returns:
        Positions, scores, and whether there is a candidate at the rank, all [Q, k].
    """
    bits = (exact + np.float32(0)).view(np.uint32)  # -0 becomes 0
    # Floats as unsigned integers that are in the same order.
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    keys = (~rising).astype(np.uint64) << np.uint64(32) | candidates.astype(np.uint64)
    keys[~allowed] = _NO_CANDIDATE
    keys.sort(axis=1)
    keys = keys[:, :k]
    rising = ~(keys >> np.uint64(32)).astype(np.uint32)
    ranked = np.where(rising >> 31, rising & np.uint32(2**31 - 1), ~rising).view(np.float32)
    return (keys & np.uint64(2**32 - 1)).astype(np.int64), ranked, keys != _NO_CANDIDATE


def _contains(banned: Positions, keys: Positions) -> npt.NDArray[np.bool_]:
    if len(banned) == 0:
        return np.zeros(keys.shape, bool)
    return banned[np.minimum(np.searchsorted(banned, keys), len(banned) - 1)] == keys


def _blocks(index: faiss.Index, rows: Positions, depth: int) -> Iterator[Positions]:
    entries = (
        _CANDIDATES_IN_MEMORY
        if _flat_storage(index) is not None
        else min(_CANDIDATES_IN_MEMORY, _DECODED_BYTES_IN_MEMORY // (4 * index.d))
    )
    size = max(1, entries // depth)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _candidates(index: faiss.Index, queries: Vectors, depth: int) -> tuple[Positions, Vectors]:
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
        shortest, longest = _length_range(index)  # products count the vectors' lengths, cosines do not
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


def pairwise(index: faiss.Index, queries: Vectors, positions: Positions) -> Vectors:
    """Scores of the given pairs, float32 [Q, K]; arbitrary where a position is -1.

    Each is computed alone, so it depends on its two vectors only.
    """
    scores = np.empty(positions.shape, np.float32)
    queries, rows = np.ascontiguousarray(queries), np.ascontiguousarray(np.maximum(positions, 0))
    if (flat := _flat_storage(index)) is not None:
        stored = flat.get_xb()
    else:
        decoded = vectors_at(index, rows)
        stored, rows = faiss.swig_ptr(decoded), np.arange(rows.size).reshape(rows.shape)
    inner = index.metric_type == faiss.METRIC_INNER_PRODUCT
    # By name: SWIG adds these functions at run time.
    compute = getattr(faiss, "fvec_inner_products_by_idx" if inner else "fvec_L2sqr_by_idx")
    compute(
        faiss.swig_ptr(scores), faiss.swig_ptr(queries), stored, faiss.swig_ptr(rows), index.d, *rows.shape
    )
    return scores if inner else 0 - scores


def _rounding(index: faiss.Index, norms: Vectors, bound: Vectors) -> Vectors:
    """How far FAISS's scores may be from the pairwise ones, float32 [Q].

    The rounding error of a sum of D products stays below lambda * sqrt(D) * u * |x||y| (Higham & Mary, 2019).
    lambda = 8 covers both errors, that of FAISS's score and that of the pairwise one. In a flat index FAISS
    computes squared distances with a matrix product, as |x|^2 + |y|^2 - 2xy.

    Args:
        norms: float32 [Q], of the queries.
        bound: float32 [Q], the last candidate's score.
    """
    if index.metric_type == faiss.METRIC_INNER_PRODUCT:
        size = norms * 1.1  # gallery vectors have length 1, decoded ones nearly
    elif isinstance(index, faiss.IndexFlat):
        size = (norms + _length_range(index)[1]) ** 2
    else:
        size = np.where(np.isfinite(bound), np.abs(bound), 0)
    return (8 * np.sqrt(index.d) * 2.0**-24 * size).astype(np.float32)


def _length_range(index: faiss.IndexFlatCodes) -> tuple[float, float]:
    """The least length above 0 and the greatest of the vectors that an index stores; computed only once."""
    if index not in _length_ranges:
        least, most = np.inf, 0.0
        for start in range(0, index.ntotal, _DECODED_VECTORS):
            end = min(start + _DECODED_VECTORS, index.ntotal)
            flat = isinstance(index, faiss.IndexFlat)
            lengths = _norms(
                stored_vectors(index, index.ntotal)[start:end]
                if flat
                else _decoded(index, np.arange(start, end))
            )
            least = min(least, float(lengths.min(where=lengths > 0, initial=np.inf)))
            most = max(most, float(lengths.max()))
        _length_ranges[index] = least, most
    return _length_ranges[index]


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
