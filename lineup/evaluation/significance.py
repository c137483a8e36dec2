"""Whether a difference is real: confidence intervals and paired tests over queries, in numpy.

Queries that share a label are drawn, and swapped, together: they are searched in the same gallery images, so
they aren't independent, and intervals that took them for independent would be too narrow.
Values are counted in millionths, as they are written: sums of integers are exact, so no result depends on
their order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Clusters = npt.NDArray[np.int64]

_UNIT = 1e6
_ENTRIES = 2**21  # numbers drawn at once


def clusters(labels: npt.NDArray[np.int64]) -> Clusters:
    """One code, 0..C-1, per label; a query without a label (-1) is a cluster of its own."""
    own = np.where(labels >= 0, labels, labels.max(initial=0) + 1 + np.arange(len(labels)))
    return np.unique(own, return_inverse=True)[1]


def bootstrap_interval(
    values: Values, clusters: Clusters, samples: int, seed: int, level: float = 0.95
) -> tuple[Values, Values]:
    """Percentile interval of the mean of each column, over resampled clusters.

    values: [N, M]; clusters: [N], codes 0..C-1 -> low [M], high [M]; NaN where C < 2, for one cluster tells
    no spread. The same seed draws the same resamples for the same clusters. Source: Efron & Tibshirani, 1993,
    ch. 13.
    """
    sums, sizes = _sums(values, clusters)
    if len(sizes) < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    random = np.random.default_rng(seed)
    means = [(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in _resamples(random, samples, len(sizes))]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0) / _UNIT
    return low, high


def randomisation_test(differences: Values, clusters: Clusters, samples: int, seed: int) -> Values:
    """Two-sided p of "the mean difference is 0" per column, by flipping the signs of whole clusters.

    differences: [N, M], of the same queries under two models; clusters: [N] -> p [M]. All 2^C flips where
    they are no more than `samples`, else so many random ones, counting the observed one. Source: Smucker et
    al., CIKM 2007.
    """
    sums, sizes = _sums(differences, clusters)
    observed = np.abs(sums.sum(axis=0))
    exact = len(sizes) < 63 and 2 ** len(sizes) <= samples
    extreme, drawn = np.zeros(differences.shape[1], np.int64), 0
    for signs in (
        _every_sign(len(sizes)) if exact else _random_signs(np.random.default_rng(seed), samples, sums.shape)
    ):
        extreme += (np.abs(signs @ sums) >= observed).sum(axis=0)
        drawn += len(signs)
    return extreme / drawn if exact else (extreme + 1) / (drawn + 1)


def holm(p: Values) -> Values:
    """p values adjusted for their number, [P] -> [P]. Source: Holm, 1979."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _sums(values: Values, clusters: Clusters) -> tuple[Values, Values]:
    """Per cluster the sum of its values in whole millionths, [C, M], and its size, [C]."""
    whole = np.rint(values * _UNIT)
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, clusters, whole)
    return sums, sizes


def _blocks(rows: int, columns: int) -> Iterator[int]:
    size = max(1, _ENTRIES // max(columns, 1))
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _resamples(random: np.random.Generator, samples: int, count: int) -> Iterator[Values]:
    """How often each of `count` clusters is drawn, [block, count], `samples` rows in all."""
    for rows in _blocks(samples, count):
        picked = random.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(picked.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _random_signs(random: np.random.Generator, samples: int, shape: tuple[int, ...]) -> Iterator[Values]:
    """Of [C, M] sums, [block, C]: as many rows at once as keep [block, M] small too."""
    count = shape[0]
    for rows in _blocks(samples, max(shape)):
        yield np.where(random.random((rows, count)) < 0.5, 1.0, -1.0)


def _every_sign(count: int) -> Iterator[Values]:
    yield np.where(np.arange(2**count)[:, None] >> np.arange(count) & 1, 1.0, -1.0)
