"""The scores of pairs of a query and a gallery image, each of which depends on its two vectors alone."""

from __future__ import annotations

import faiss
import numpy as np

from lineup.search import faiss_vectors
from lineup.search.vectors import Positions, Vectors


def pairwise(index: faiss.Index, queries: Vectors, positions: Positions) -> Vectors:
    """Scores of the given pairs, float32 [Q, K]; arbitrary where a position is -1.

    Each is computed alone, so it depends on its two vectors only.
    """
    scores = np.empty(positions.shape, np.float32)
    queries, rows = np.ascontiguousarray(queries), np.ascontiguousarray(np.maximum(positions, 0))
    if (flat := faiss_vectors.flat_storage(index)) is not None:
        stored = flat.get_xb()
    else:
        decoded = faiss_vectors.vectors_at(index, rows)
        stored, rows = faiss.swig_ptr(decoded), np.arange(rows.size).reshape(rows.shape)
    inner = index.metric_type == faiss.METRIC_INNER_PRODUCT
    # By name: SWIG adds these functions at run time.
    compute = getattr(faiss, "fvec_inner_products_by_idx" if inner else "fvec_L2sqr_by_idx")
    compute(
        faiss.swig_ptr(scores), faiss.swig_ptr(queries), stored, faiss.swig_ptr(rows), index.d, *rows.shape
    )
    return scores if inner else 0 - scores


def rounding(index: faiss.Index, norms: Vectors, bound: Vectors) -> Vectors:
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
        size = (norms + faiss_vectors.length_range(index)[1]) ** 2
    else:
        size = np.where(np.isfinite(bound), np.abs(bound), 0)
    return (8 * np.sqrt(index.d) * 2.0**-24 * size).astype(np.float32)
