"""The pool: the first k answers of all rows to each query, and the order in which they are judged.

The orders follow from hashes of ids, so they depend neither on the rows nor on one another's length: a query
or an answer that is added moves none of the others.

Source of pooling: Voorhees and Harman, TREC: Experiment and Evaluation in Information Retrieval, 2005, ch. 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# Answers that are read beyond the first k: each takes the place of one that is judged junk.
SPARE_ANSWERS = 20


@dataclass(frozen=True)
class Pool:
    """The first answers of some rows.

    Attributes:
        rows: their names.
        k: how many answers of each row are judged.
        query_ids: str [Q], sorted.
        gallery_ids: str [G], sorted; all that occur in `ranked`, at least.
        ranked: int [R, Q, D] into gallery_ids, D up to k + SPARE_ANSWERS; -1 after the end of a ranking.
    """

    rows: tuple[str, ...]
    k: int
    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.str_]
    ranked: npt.NDArray[np.int32]

    def first(self, query: int, junk: Collection[int] = ()) -> IntArray:
        """Each row's first k answers to a query without junk: int [R, k], -1 after the end of a ranking."""
        return first_answers(self.ranked[:, query], junk, self.k)

    def ids(self, positions: Iterable[int]) -> list[str]:
        """The ids of gallery images."""
        return self.gallery_ids[[*positions]].tolist()

    def positions(self, gallery_ids: Collection[str]) -> list[int]:
        """The positions of gallery images; -1 of those that no row ranks so far in front."""
        if not len(self.gallery_ids):
            return [-1] * len(gallery_ids)
        ids = np.array([*gallery_ids], np.str_)
        positions = np.minimum(np.searchsorted(self.gallery_ids, ids), len(self.gallery_ids) - 1)
        return np.where(self.gallery_ids[positions] == ids, positions, -1).tolist()


def first_answers(ranked: npt.NDArray[np.integer], junk: Collection[int], k: int) -> IntArray:
    """The first k answers of each row, after junk was removed.

    Args:
        ranked: int [R, D], -1 after the end of a ranking.
    Returns:
        int [R, k], -1 after the end of a ranking.
    """
    first = np.full((len(ranked), k), -1, np.int64)
    if not junk:
        depth = min(k, ranked.shape[1])
        first[:, :depth] = ranked[:, :depth]
        return first
    for row, answers in enumerate(ranked):
        left = answers[~np.isin(answers, [*junk])][:k]
        first[row, : len(left)] = left
    return first


def union(first: npt.NDArray[np.integer]) -> list[int]:
    """Every answer that any row gives, once, sorted.

    Args:
        first: int [R, k], -1 after the end of a ranking.
    """
    answers = np.unique(first)
    return answers[answers >= 0].tolist()


def is_same_set(first: npt.NDArray[np.integer]) -> bool:
    """Whether all rows give the same answers, in whatever order: they have the same precision then.

    A single row differs from none, and its answers are worth judging.

    Args:
        first: int [R, k], -1 after the end of a ranking.
    """
    if len(first) < 2:
        return False
    ordered = np.sort(first, axis=1)
    return bool((ordered == ordered[0]).all())


def query_order(query_ids: Sequence[str], seed: int) -> list[int]:
    """Positions of the queries in a random order: every prefix of it is a random sample of the queries."""
    return sorted(
        range(len(query_ids)), key=lambda query: (_hash(str(seed), query_ids[query]), query_ids[query])
    )


def shuffled(query_id: str, gallery_ids: Iterable[str]) -> list[str]:
    """The answers to a query in an order that tells nothing about ranks and rows."""
    return sorted(gallery_ids, key=lambda gallery_id: (_hash(query_id, gallery_id), gallery_id))


def _hash(*parts: str) -> bytes:
    return hashlib.sha256(":".join(parts).encode()).digest()
