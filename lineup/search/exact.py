"""Nearest neighbours with FAISS, in an order that depends on the vectors alone.

FAISS finds candidates with a matrix product, whose last bits vary with the shape of the product and the
number of threads. The candidates' scores are therefore computed again, pair by pair, and equal ones are
ordered by image_id. A flat index of float32 vectors is exact; of any other the candidates are what it finds,
and scores are computed from the vectors that it holds (lineup/search/approximate.py builds those). These are
no longer of length 1 where an index holds them in fewer bits; for cosine they are divided by the length that
they have.
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

MARGIN = 8  # candidates beyond k, so that a query rarely needs a second search
_ENTRIES = 2**21  # candidates held at once, of all queries together
_DECODED_BYTES = 2**26  # of candidates' vectors held at once, where an index holds them in another form
_ROWS = 8_192  # vectors decoded at once, where all are looked at
_LARGEST_NORM = 1e18  # squared distances stay within float32
_NOTHING = np.uint64(2**64 - 1)  # sorts behind every score and position
_threshold = threading.Lock()
_lengths: weakref.WeakKeyDictionary[faiss.Index, tuple[float, float]] = weakref.WeakKeyDictionary()


def build(metric: Metric, dim: int, rows: int, batches: Iterable[Batch], place: str) -> faiss.IndexFlat:
    """A flat index of `rows` vectors; holds each vector once.

    cosine: inner product of L2-normalised vectors; l2: squared distance of the vectors as they are.
    UserError names the image whose vector can't be searched, and `place`, where it was read.
    """
    index = faiss.IndexFlat(dim, faiss_metric(metric))
    index.codes.resize(rows * index.code_size)  # adding batch by batch would move and hold them twice
    stored = stored_vectors(index, rows)
    done = 0
    for ids, vectors in batches:
        stored[done : done + len(ids)] = prepare(metric, ids, vectors, place)
        done += len(ids)
    assert done == rows, f"{done} vectors came, {rows} were announced"
    index.ntotal = rows
    return index


def build_file(path: Path, metric: Metric, dim: int, rows: int, batches: Iterable[Batch], place: str) -> None:
    """The file that `save` would write of `build`'s index.

    Holds one batch at a time, so it may be larger than memory.
    """
    header = bytearray(faiss.serialize_index(faiss.IndexFlat(dim, faiss_metric(metric))).tobytes())
    # The type's four letters, the dimension and the number of vectors come first; the number of floats and
    # they come last.
    header[8:16], header[-8:] = struct.pack("<q", rows), struct.pack("<Q", rows * dim)

    def write(temporary: Path) -> None:
        done = 0
        with temporary.open("wb") as file:
            file.write(header)
            for ids, vectors in batches:
                file.write(prepare(metric, ids, vectors, place).data)
                done += len(ids)
        assert done == rows, f"{done} vectors came, {rows} were announced"

    files.replace_atomically(path, write)


def faiss_metric(metric: Metric) -> int:
    return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2


def stored_vectors(index: faiss.Index, rows: int) -> Vectors:
    """The index's vectors as float32 [rows, D]: its own memory, valid as long as the index is; copies if they
    lie in another form.
    """
    flat = _held_flat(index)
    if rows == 0:
        return np.empty((0, index.d), np.float32)
    if flat is None:
        return vectors_at(index, np.arange(rows))
    return faiss.rev_swig_ptr(flat.get_xb(), rows * index.d).reshape(rows, index.d)


def vectors_at(index: faiss.Index, positions: Positions) -> Vectors:
    """Some of the index's vectors, positions int64 [...] -> float32 [..., D], as they're compared; -1 gives
    any.

    Decoded from what the index holds; of length 1 for cosine.
    """
    places = np.maximum(positions, 0)
    if _held_flat(index) is not None:
        return stored_vectors(index, index.ntotal)[places]
    vectors = _decoded(index, places.ravel())
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and not _holds_floats(index):
        lengths = _lengths_of_each(vectors)
        vectors /= np.where(lengths > 0, lengths, 1)[:, None]
    return vectors.reshape(*positions.shape, index.d)


def _decoded(index: faiss.Index, places: Positions) -> Vectors:
    """float32 [n, D], as the index holds them: those of float16, int8 or codes have lost their length of 1."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None and not isinstance(index, faiss.IndexRefine) and lists.direct_map.no():
        lists.make_direct_map()  # where each image lies, 8 bytes each
    return index.reconstruct_batch(places)


def _lengths_of_each(vectors: Vectors) -> Vectors:
    """float32 [n]; each is computed alone, so it depends on its own vector only."""
    lengths = np.empty(len(vectors), np.float32)
    faiss.fvec_norms_L2(faiss.swig_ptr(lengths), faiss.swig_ptr(vectors), vectors.shape[1], len(vectors))  # type: ignore[attr-defined]
    return lengths


def _holds_floats(index: faiss.Index) -> bool:
    """Whether an index holds its vectors as they were added, bit by bit."""
    if isinstance(index, faiss.IndexRefine):
        return isinstance(faiss.downcast_index(index.refine_index), faiss.IndexFlat)
    return _held_flat(index) is not None or isinstance(index, faiss.IndexIVFFlat)


def _held_flat(index: faiss.Index) -> faiss.IndexFlat | None:
    """Where an index holds its vectors as they are, in the order of the images."""
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    return index if isinstance(index, faiss.IndexFlat) else None


def prepare(metric: Metric, ids: list[str] | npt.NDArray[np.str_], vectors: Vectors, place: str) -> Vectors:
    """The vectors as they're searched, float32 [N, D]: of length 1 for cosine. UserError names a vector that
    can't be.
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
            f"{place}: the vector of image {ids[first]} {fault}; check the encoder's weights and run its embed stage again"
        )
    return (
        (vectors / norms[:, None]).astype(np.float32)
        if metric == "cosine"
        else np.ascontiguousarray(vectors, np.float32)
    )


def save(path: Path, index: faiss.Index) -> None:
    def write(temporary: Path) -> None:
        # Not by name: FAISS then takes no notice of a disk that is full when it closes the file.
        with temporary.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    files.replace_atomically(path, write)


def size(index: faiss.Index) -> int:
    """Bytes of the file that `save` writes."""
    counted = 0

    def count(part: bytes) -> int:
        nonlocal counted
        counted += len(part)
        return len(part)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
    return counted


def load(path: Path, metric: Metric, gallery: int) -> faiss.Index:
    """Not read but mapped into memory, whose pages come and go as they're needed: a gallery may be larger
    than memory.

    UserError if the file is missing, broken, or of another metric or gallery.
    """
    try:
        with path.open("rb") as file:
            lists = file.read(2) == b"Iw"  # FAISS marks its inverted files so; it maps them in another way
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if lists else faiss.IO_FLAG_MMAP_IFC)
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`, or `dvc pull` it") from None
    except RuntimeError:
        raise UserError(f"{path}: isn't a FAISS index; run `dvc repro`, or `dvc pull` it") from None
    if index.metric_type != faiss_metric(metric):
        raise UserError(
            f"{path}: was built for another metric than {metric}; run `dvc repro` to build it again"
        )
    if index.ntotal != gallery:
        raise UserError(
            f"{path}: the gallery has changed since it was built, from {index.ntotal:,} images to {gallery:,}; run `dvc repro` to go on"
        )
    return index


def nearest(index: faiss.Index, queries: Vectors, k: int, excluded: Positions) -> tuple[Positions, Vectors]:
    """The k best gallery images of each query that aren't excluded, in an order that's independent of how it
    was found.

    queries: float32 [Q, D], as `prepare` gave them; excluded: int [E, 2] of (query, gallery position).
    Returns positions int64 [Q, K] and scores float32 [Q, K], K = min(k, gallery): cosine similarity or minus
    the squared distance, falling, equal ones by position. A row that ends earlier is filled with -1 and NaN:
    there is no more, or an approximate index finds no more. Each query is answered as if it came alone.
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
            allowed = (candidates >= 0) & ~_among(banned, some[:, None] * gallery + candidates)
            found, ranked, kept = _ordered(candidates, exact, allowed, k)
            positions[some] = np.where(kept, found, -1)
            scores[some] = np.where(kept, ranked, np.nan)
            # What FAISS left out may still belong before the last one found, if it is as near up to rounding.
            more = candidates[:, -1] >= 0
            open_ended = more & (
                ~kept[:, -1] | (ranked[:, -1] <= bound + _rounding(index, norms[some], bound))
            )
            if depth < gallery and open_ended.any():
                waiting.append((some[open_ended], min(gallery, 2 * depth)))
    return positions, scores


def _ordered(
    candidates: Positions, exact: Vectors, allowed: npt.NDArray[np.bool_], k: int
) -> tuple[Positions, Vectors, npt.NDArray[np.bool_]]:
    """The k best: positions, scores and whether there is one, all [Q, k]; by falling score, equal ones by
    position.

    One integer holds a score and its position: numpy sorts those ten times as fast as pairs.
    """
    bits = (exact + np.float32(0)).view(np.uint32)  # -0 becomes 0
    rising = np.where(
        bits >> 31, ~bits, bits | np.uint32(2**31)
    )  # floats, as unsigned integers in the same order
    keys = (~rising).astype(np.uint64) << np.uint64(32) | candidates.astype(np.uint64)
    keys[~allowed] = _NOTHING
    keys.sort(axis=1)
    keys = keys[:, :k]
    rising = ~(keys >> np.uint64(32)).astype(np.uint32)
    ranked = np.where(rising >> 31, rising & np.uint32(2**31 - 1), ~rising).view(np.float32)
    return (keys & np.uint64(2**32 - 1)).astype(np.int64), ranked, keys != _NOTHING


def _among(banned: Positions, keys: Positions) -> npt.NDArray[np.bool_]:
    if len(banned) == 0:
        return np.zeros(keys.shape, bool)
    return banned[np.minimum(np.searchsorted(banned, keys), len(banned) - 1)] == keys


def _blocks(index: faiss.Index, rows: Positions, depth: int) -> Iterator[Positions]:
    entries = _ENTRIES if _held_flat(index) is not None else min(_ENTRIES, _DECODED_BYTES // (4 * index.d))
    size = max(1, entries // depth)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _candidates(index: faiss.Index, queries: Vectors, depth: int) -> tuple[Positions, Vectors]:
    """depth positions per query, int64 [Q, depth], and a score that none of the others surpasses but for
    rounding, [Q].
    """
    if depth == index.ntotal and isinstance(index, faiss.IndexFlatCodes):
        return np.tile(np.arange(depth), (len(queries), 1)), np.full(len(queries), -np.inf, np.float32)
    with _pair_by_pair() if faiss.try_extract_index_ivf(index) is not None else nullcontext():
        distances, positions = index.search(queries, depth)
    bound = distances[:, -1] if index.metric_type == faiss.METRIC_INNER_PRODUCT else -distances[:, -1]
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and isinstance(index, faiss.IndexScalarQuantizer):
        shortest, longest = _lengths_of(index)  # FAISS's products count them, cosines don't
        bound = bound / np.where(bound > 0, shortest, longest).astype(np.float32)
    return positions, bound


@contextmanager
def _pair_by_pair() -> Iterator[None]:
    """Without FAISS's matrix product, so that which lists of an inverted file are looked at doesn't depend on
    the other queries.
    """
    with _threshold:  # FAISS has one for all threads
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before


def pairwise(index: faiss.Index, queries: Vectors, positions: Positions) -> Vectors:
    """Scores of the given pairs, float32 [Q, K].

    Each is computed alone, so it depends on its two vectors only; any for -1.
    """
    scores = np.empty(positions.shape, np.float32)
    queries, places = np.ascontiguousarray(queries), np.ascontiguousarray(np.maximum(positions, 0))
    if (flat := _held_flat(index)) is not None:
        stored = flat.get_xb()
    else:
        decoded = vectors_at(index, places)
        stored, places = faiss.swig_ptr(decoded), np.arange(places.size).reshape(places.shape)
    inner = index.metric_type == faiss.METRIC_INNER_PRODUCT
    compute = getattr(
        faiss, "fvec_inner_products_by_idx" if inner else "fvec_L2sqr_by_idx"
    )  # wrapped at run time
    compute(
        faiss.swig_ptr(scores),
        faiss.swig_ptr(queries),
        stored,
        faiss.swig_ptr(places),
        index.d,
        *places.shape,
    )
    return scores if inner else 0 - scores


def _rounding(index: faiss.Index, norms: Vectors, bound: Vectors) -> Vectors:
    """How far FAISS's scores may be off, per query, float32 [Q]; norms: of the queries; bound: the last score
    found.

    Rounding errors of a sum of D products stay below lambda * sqrt(D) * u * |x||y| (Higham & Mary, 2019),
    here with lambda = 8 for both ways of computing together; FAISS gets squared distances from |x|^2 + |y|^2
    - 2xy, where it takes a matrix product, that is in a flat index.
    """
    if index.metric_type == faiss.METRIC_INNER_PRODUCT:
        size = norms * 1.1  # vectors of length 1, decoded ones nearly
    elif isinstance(index, faiss.IndexFlat):
        size = (norms + _lengths_of(index)[1]) ** 2
    else:
        size = np.where(np.isfinite(bound), np.abs(bound), 0)
    return (8 * np.sqrt(index.d) * 2.0**-24 * size).astype(np.float32)


def _lengths_of(index: faiss.IndexFlatCodes) -> tuple[float, float]:
    """The least length above 0, and the greatest, of the vectors as the index holds them; computed once."""
    if index not in _lengths:
        least, most = np.inf, 0.0
        for start in range(0, index.ntotal, _ROWS):
            end = min(start + _ROWS, index.ntotal)
            flat = isinstance(index, faiss.IndexFlat)
            lengths = _lengths_of_each(
                stored_vectors(index, index.ntotal)[start:end]
                if flat
                else _decoded(index, np.arange(start, end))
            )
            least, most = (
                min(least, float(lengths.min(where=lengths > 0, initial=np.inf))),
                max(most, float(lengths.max())),
            )
        _lengths[index] = least, most
    return _lengths[index]


def query_ms(
    index: faiss.Index, queries: Vectors, k: int, sample: int = 200, most_seconds: float = 10.0
) -> float:
    """Mean wall milliseconds of one search for one query, by FAISS alone, after a warm-up; over up to
    `sample` queries.

    In a gallery where they'd take longer than `most_seconds`, over as many as these allow.
    """
    picked = queries[np.linspace(0, len(queries) - 1, min(sample, len(queries))).astype(int)]
    k = min(k, index.ntotal)
    for some, seconds in ((picked[:10], most_seconds / 10), (picked, most_seconds)):  # the first warms up
        done, taken, start = 0, 0.0, time.perf_counter()
        while done < len(some) and taken < seconds:
            index.search(some[done : done + 1], k)
            done, taken = done + 1, time.perf_counter() - start
    return taken * 1000 / done
