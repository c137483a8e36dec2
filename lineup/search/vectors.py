"""The vectors of a search: their types, and how they are prepared for a metric."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from lineup.errors import UserError

Metric = Literal["cosine", "l2"]
Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Batch = tuple[list[str], Vectors]  # ids, and vectors as they were embedded, float32 [n, D]

_LARGEST_NORM = 1e18  # with it, squared distances still fit into float32


def prepare_vectors(
    metric: Metric, ids: list[str] | npt.NDArray[np.str_], vectors: Vectors, source: str
) -> Vectors:
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
