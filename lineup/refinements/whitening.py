"""PCA whitening: x' = (x - mean) P, P the first principal directions over their standard deviations, learned
on the gallery.

Source: Jégou & Chum, ECCV 2012. Nothing of the queries or of any label is used. With the cosine metric the
vectors are of length 1 before, and their results are compared by cosine again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lineup.errors import UserError
from lineup.refinements.refinement import Task, Values, one_thread
from lineup.search.exact import Vectors
from lineup.settings.refinement import Whitening

_FLAT = 1e-10  # of the largest variance: below it there's only the rounding of float32


@dataclass(frozen=True)
class Projection:
    """mean: float64 [D]; directions: float64 [D, dim]; learned on `count` vectors."""

    mean: Values
    directions: Values
    count: int

    def apply(self, vectors: Vectors) -> Vectors:
        """float32 [N, D] -> float32 [N, dim]."""
        with one_thread():
            return ((vectors - self.mean) @ self.directions).astype(np.float32)


def learn(batches: Iterable[Vectors], full: int, dim: int) -> Projection:
    """Two sums over float32 [n, full] batches of the gallery; holds full^2 numbers. UserError if the gallery
    varies in fewer dimensions."""
    count, total, products = 0, np.zeros(full), np.zeros((full, full))
    origin = np.zeros(full)  # near the mean, so that the difference of two large sums loses nothing
    # Eigenvectors differ in their last bits, and by their sign, between numbers of threads.
    with one_thread():
        for batch in batches:
            if len(batch) == 0:
                continue
            if count == 0:
                origin = batch[0].astype(np.float64)
            gaps = batch - origin
            count, total, products = count + len(gaps), total + gaps.sum(axis=0), products + gaps.T @ gaps
        assert count, "a gallery that is empty was told before"
        mean = total / count
        variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    varying = int((variances > _FLAT * max(variances[-1], 0)).sum())
    if dim > varying:
        raise UserError(
            f"whitening's dim is {dim}, but the gallery's {count} vectors of {full} dimensions vary in {varying} only; "
            + (f"set dim to {varying} or less" if varying else "there is nothing to whiten")
        )
    variances, directions = variances[::-1][:dim], directions[:, ::-1][:, :dim]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dim)])
    return Projection(origin + mean, directions * signs / np.sqrt(variances), count)


def queries(settings: Whitening, task: Task) -> Vectors:
    """The queries' own: the task's vectors are those that were projected."""
    assert task.space is not None and task.space.queries.shape[1] == settings.dim
    return task.space.queries
