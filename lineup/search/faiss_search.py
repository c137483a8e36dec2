"""Nearest neighbours in one FAISS index, in an order that depends on the vectors alone.

FAISS finds candidates with a matrix product, whose last bits vary with the shape of the product and the
number of threads. The candidates' scores are therefore computed again, pair by pair, and equal scores are
ordered by image_id.

A flat index of float32 vectors gives an exact search. Any other index (lineup/search/approximate.py builds
those) gives the candidates that it finds, scored by the vectors that it stores.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from lineup.search import faiss_candidates, pair_scores
from lineup.search.hits import Hits
from lineup.search.vectors import Positions, Vectors

_NO_CANDIDATE = np.uint64(2**64 - 1)  # sorts behind every score and position


def nearest(index: faiss.Index, queries: Vectors, k: int, excluded: Positions) -> Hits:
    """The k best gallery images of each query, without those that are excluded.

    Each query is answered as if it came alone, and the order depends on the vectors only.

    Args:
        queries: float32 [Q, D], as `prepare_vectors` returns them.
        excluded: int64 [E, 2] of (query, gallery position).
    Returns:
        [Q, K], K = min(k, gallery). A score is the cosine similarity or minus the squared distance; scores
        fall, and equal ones are ordered by position. Where a query has fewer images, or an approximate index
        finds fewer, the rest is -1 and NaN.
    """
    gallery = index.ntotal
    k = min(k, gallery)
    hits = Hits(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.nan, np.float32))
    excluded_keys = np.sort(excluded[:, 0] * gallery + excluded[:, 1])
    norms = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    waiting = [(np.arange(len(queries)), min(gallery, k + faiss_candidates.MARGIN))]
    while waiting:
        unranked, depth = waiting.pop()
        for block in faiss_candidates.blocks(index, unranked, depth):
            candidates, bound = faiss_candidates.find(index, queries[block], depth)
            scores = pair_scores.pairwise(index, queries[block], candidates)
            is_excluded = _contains(excluded_keys, block[:, None] * gallery + candidates)
            best, is_filled = _best(Hits(candidates, scores), (candidates >= 0) & ~is_excluded, k)
            hits.positions[block] = np.where(is_filled, best.positions, -1)
            hits.scores[block] = np.where(is_filled, best.scores, np.nan)
            # An image that FAISS left out may still belong before the last one ranked, if it is as near up to
            # rounding. Such a query is searched deeper.
            rounding = pair_scores.rounding(index, norms[block], bound)
            may_change = ~is_filled[:, -1] | (best.scores[:, -1] <= bound + rounding)
            unsettled = (candidates[:, -1] >= 0) & may_change
            if depth < gallery and unsettled.any():
                waiting.append((block[unsettled], min(gallery, 2 * depth)))
    return hits


def _best(candidates: Hits, allowed: npt.NDArray[np.bool_], k: int) -> tuple[Hits, npt.NDArray[np.bool_]]:
    """The k best of the allowed candidates, by falling score, equal ones by position.

    A score and its position are sorted as one integer, which numpy does ten times as fast as pairs.

    Returns:
        [Q, k] each: the best, and whether there is a candidate at the rank.
    """
    bits = (candidates.scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    # Floats as unsigned integers that are in the same order.
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    keys = (~rising).astype(np.uint64) << np.uint64(32) | candidates.positions.astype(np.uint64)
    keys[~allowed] = _NO_CANDIDATE
    keys.sort(axis=1)
    keys = keys[:, :k]
    rising = ~(keys >> np.uint64(32)).astype(np.uint32)
    scores = np.where(rising >> 31, rising & np.uint32(2**31 - 1), ~rising).view(np.float32)
    return Hits((keys & np.uint64(2**32 - 1)).astype(np.int64), scores), keys != _NO_CANDIDATE


def _contains(rising: Positions, keys: Positions) -> npt.NDArray[np.bool_]:
    """Which of the keys are among the rising ones."""
    if len(rising) == 0:
        return np.zeros(keys.shape, bool)
    return rising[np.minimum(np.searchsorted(rising, keys), len(rising) - 1)] == keys
