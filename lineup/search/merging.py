"""Rankings of parts of a gallery, merged into the ranking of the whole gallery.

A score depends on its two vectors alone (lineup/search/pair_scores.py), and images are ordered by score and
position. So the merged ranking is that of a search in one piece, byte for byte, however the gallery is
divided and in whatever order its parts are merged.
"""

from __future__ import annotations

import numpy as np

from lineup.search.hits import Hits
from lineup.search.vectors import Positions


def empty_rankings(queries: int) -> Hits:
    """Rankings without images, which the first part is merged with."""
    return Hits(np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32))


def merge(one: Hits, other: Hits, k: int) -> Hits:
    """The k best of two rankings of different images, by falling score, equal ones by position."""
    positions = np.concatenate([one.positions, other.positions], axis=1)
    scores = np.concatenate([one.scores, other.scores], axis=1)
    order = np.lexsort((positions, -scores, positions < 0), axis=-1)[:, :k]
    return Hits(np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1))


def in_gallery(part: Hits, start: int) -> Hits:
    """The ranking of a part that begins at `start`, with its positions in the whole gallery."""
    return Hits(np.where(part.positions >= 0, part.positions + start, -1), part.scores)


def excluded_in_part(excluded: Positions, start: int, images: int) -> Positions:
    """The excluded pairs that lie in a part of the gallery: int64 [E, 2] of (query, position in the part)."""
    in_part = (excluded[:, 1] >= start) & (excluded[:, 1] < start + images)
    return excluded[in_part] - [0, start]
