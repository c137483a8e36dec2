"""The vectors that a FAISS index stores, decoded as they are compared.

Vectors stored in fewer than 32 bits no longer have length 1; for cosine they are divided by the length that
they have.
"""

from __future__ import annotations

import weakref

import faiss
import numpy as np

from lineup.search.vectors import Positions, Vectors

_DECODED_VECTORS = 8_192  # are decoded together, which limits memory
_length_ranges: weakref.WeakKeyDictionary[faiss.Index, tuple[float, float]] = weakref.WeakKeyDictionary()


def stored_vectors(index: faiss.Index, rows: int) -> Vectors:
    """All vectors of an index, float32 [rows, D].

    A flat index gives its own memory, which is valid as long as the index is; any other gives a decoded copy.
    """
    flat = flat_storage(index)
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
    if flat_storage(index) is not None:
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
    return flat_storage(index) is not None or isinstance(index, faiss.IndexIVFFlat)


def flat_storage(index: faiss.Index) -> faiss.IndexFlat | None:
    """The part of an index that stores the vectors unchanged, in the order of the images, if it has one."""
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    return index if isinstance(index, faiss.IndexFlat) else None


def length_range(index: faiss.IndexFlatCodes) -> tuple[float, float]:
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
