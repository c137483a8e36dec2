"""Learned whitening: where an adapter starts, in closed form, from the vectors of labelled photos.

It shrinks the directions in which photos of one label differ. Source: Mikolajczyk & Matas, ICCV 2007, as used
by Radenović et al., TPAMI 2018; the shrinkage of the covariance is that of Friedman, JASA 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

_ROWS_PER_PRODUCT = 65_536


class Start(NamedTuple):
    """The map x -> matrix (x - mean) of unit vectors.

    Args:
        name: what it is, for the log.
        matrix: float32 [dim, D].
        mean: float32 [D].
    """

    name: str
    matrix: torch.Tensor
    mean: torch.Tensor

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """[N, D] -> [N, dim]."""
        return (vectors - self.mean) @ self.matrix.T


def none(vectors: torch.Tensor, dim: int) -> Start:
    """The vectors themselves, or their projection to `dim` principal directions: of float32 [N, D].

    The directions are those of the vectors, not of their differences from the mean, so that cosines change as
    little as possible.
    """
    width = vectors.shape[1]
    matrix = torch.eye(width) if dim == width else _directions(_second_moment(vectors))[:dim].float()
    return Start(f"none, {dim} dimensions", matrix, torch.zeros(width))


class LabelStatistics:
    """Moments of labelled vectors, of which each whitening is a function.

    Args:
        vectors: float32 [N, D], of length 1.
        labels: int64 [N]; -1 where a vector has none, which then counts for nothing.
    """

    def __init__(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        known = labels >= 0
        vectors, labels = vectors[known], labels[known].unique(return_inverse=True)[1]
        counts = torch.bincount(labels).double()
        sums = torch.zeros(len(counts), vectors.shape[1], dtype=torch.float64)
        squares = _second_moment(vectors)
        for first in range(0, len(vectors), _ROWS_PER_PRODUCT):
            rows = slice(first, first + _ROWS_PER_PRODUCT)
            sums.index_add_(0, labels[rows], vectors[rows].double())
        means = sums / counts[:, None]
        self.mean = sums.sum(dim=0) / counts.sum()
        self._total = squares / counts.sum() - torch.outer(self.mean, self.mean)
        within = (squares - sums.T @ means) / counts.sum()
        self._variances, self._within_directions = torch.linalg.eigh(within)

    def whitening(self, shrinkage: float) -> Start:
        """The whitening of the differences within labels; it keeps all dimensions.

        Args:
            shrinkage: in 0..1, how far each direction's variance is drawn to the mean of all. 1 subtracts the
                mean of the vectors, and no more.
        """
        variances = self._variances.clamp(min=0)
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
        roots = shrunk.clamp(min=torch.finfo(torch.float64).tiny) ** -0.5
        name = f"whitening, shrinkage {shrinkage:g}"
        return self._scaled(name, self._within_directions * roots @ self._within_directions.T)

    def narrowed(self, start: Start, dims: Sequence[int]) -> list[Start]:
        """A whitening, reduced to the directions in which its vectors differ most, for each of `dims`."""
        matrix = start.matrix.double()
        rotated = _directions(matrix @ self._total @ matrix.T) @ matrix
        return [self._scaled(f"{start.name}, {dim} dimensions", rotated[:dim]) for dim in dims]

    def _scaled(self, name: str, matrix: torch.Tensor) -> Start:
        """With vectors of length 1 on average (root mean square)."""
        scale = (matrix @ self._total @ matrix.T).trace() ** -0.5
        return Start(name, (matrix * scale).float(), self.mean.float())


def _second_moment(vectors: torch.Tensor) -> torch.Tensor:
    """The sum of x x^T over float32 [N, D]: float64 [D, D]."""
    total = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for first in range(0, len(vectors), _ROWS_PER_PRODUCT):
        wide = vectors[first : first + _ROWS_PER_PRODUCT].double()
        total += wide.T @ wide
    return total


def _directions(moment: torch.Tensor) -> torch.Tensor:
    """The eigenvectors of float64 [D, D], one in each row, that of the largest eigenvalue first: [D, D]."""
    _, directions = torch.linalg.eigh(moment)  # one in each column, the first one last
    rows = directions.flip(1).T
    largest = rows.abs().argmax(dim=1, keepdim=True)
    return rows * rows.gather(1, largest).sign()  # the sign of an eigenvector is arbitrary
