"""How refinements put gallery images in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lineup.search.hits import Hits
from lineup.search.vectors import Positions

Values = npt.NDArray[np.float64]


def best(positions: Positions, scores: Values, depth: int) -> Hits:
    """The `depth` best of the candidates, by falling score, equal ones by position.

    Scores are compared as they are written, in float32, so that equal ones are in the order of their
    image_id.

    Args:
        positions: int64 [Q, C], candidates in any order; -1 where there is none.
        scores: float64 [Q, C].
    Returns:
        Rankings that are as wide as the longest of them, at most `depth`.
    """
    written = scores.astype(np.float32)
    order = np.lexsort((positions, -written, positions < 0), axis=-1)[:, :depth]
    positions = np.take_along_axis(positions, order, axis=1)
    written = np.take_along_axis(written, order, axis=1)
    width = int((positions >= 0).sum(axis=1).max(initial=0))
    return Hits(positions[:, :width], np.where(positions < 0, np.float32(np.nan), written)[:, :width])


def summed(
    first: Positions, gains: Values, second: Positions, second_gains: Values
) -> tuple[Positions, Values]:
    """Every image of two rankings once, with the sum of its gains.

    Args:
        first, second: int64 [Q, K1] and [Q, K2], -1 where there is no image.
        gains, second_gains: float64, of the same shapes.
    Returns:
        Positions and gains, both [Q, K1 + K2], -1 where there is no image.
    """
    positions = np.concatenate([first, second], axis=1)
    values = np.concatenate([gains, second_gains], axis=1)
    order = np.argsort(positions, axis=1, kind="stable")
    positions, values = (
        np.take_along_axis(positions, order, axis=1),
        np.take_along_axis(values, order, axis=1),
    )
    in_both = (positions[:, 1:] == positions[:, :-1]) & (positions[:, 1:] >= 0)
    values[:, :-1] += np.where(in_both, values[:, 1:], 0)
    positions[:, 1:][in_both] = -1
    return positions, values
