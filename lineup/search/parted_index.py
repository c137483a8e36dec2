"""An index that consists of one FAISS index for each part of the gallery, searched like a single one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from lineup.search import faiss_search, faiss_vectors, merging, pair_scores, query_time
from lineup.search.hits import Hits
from lineup.search.vectors import Positions, Vectors


@dataclass(frozen=True, eq=False)
class PartedIndex:
    """The parts in the order of their images; all have the same dimension and metric."""

    parts: tuple[faiss.Index, ...]

    @property
    def d(self) -> int:
        """The numbers in each vector."""
        return self.parts[0].d

    @property
    def ntotal(self) -> int:
        """The number of images."""
        return sum(part.ntotal for part in self.parts)

    def located(self) -> Iterator[tuple[int, faiss.Index]]:
        """Each part with the position of its first image."""
        start = 0
        for part in self.parts:
            yield start, part
            start += part.ntotal


Searchable = faiss.Index | PartedIndex


def nearest(index: Searchable, queries: Vectors, k: int, excluded: Positions) -> Hits:
    """As `faiss_search.nearest`."""
    if not isinstance(index, PartedIndex):
        return faiss_search.nearest(index, queries, k, excluded)
    best = merging.empty_rankings(len(queries))
    for start, part in index.located():
        banned = merging.excluded_in_part(excluded, start, part.ntotal)
        ranked = faiss_search.nearest(part, queries, k, banned)
        best = merging.merge(best, merging.in_gallery(ranked, start), k)
    return best


def vectors_at(index: Searchable, positions: Positions) -> Vectors:
    """As `faiss_vectors.vectors_at`."""
    if not isinstance(index, PartedIndex):
        return faiss_vectors.vectors_at(index, positions)
    vectors = np.empty((*positions.shape, index.d), np.float32)
    valid = np.maximum(positions, 0)
    for start, part in index.located():
        in_part = (valid >= start) & (valid < start + part.ntotal)
        vectors[in_part] = faiss_vectors.vectors_at(part, valid[in_part] - start)
    return vectors


def pairwise(index: Searchable, queries: Vectors, positions: Positions) -> Vectors:
    """As `pair_scores.pairwise`."""
    if not isinstance(index, PartedIndex):
        return pair_scores.pairwise(index, queries, positions)
    scores = np.empty(positions.shape, np.float32)
    valid = np.maximum(positions, 0)
    for start, part in index.located():
        rows, columns = np.nonzero((valid >= start) & (valid < start + part.ntotal))
        local = valid[rows, columns] - start
        scores[rows, columns] = pair_scores.pairwise(part, queries[rows], local[:, None])[:, 0]
    return scores


def query_ms(index: Searchable, queries: Vectors, k: int) -> float:
    """As `query_time.query_ms`: a query searches the parts one after the other."""
    parts = index.parts if isinstance(index, PartedIndex) else (index,)
    return sum(query_time.query_ms(part, queries, k, most_seconds=10 / len(parts)) for part in parts)
