"""Whether a difference between rows is more than chance: confidence intervals and paired tests, in numpy.

Queries with one label are searched in the same gallery images, so they are not independent. They are
resampled, and their signs are flipped, together, as one cluster. Treating them as independent would give
intervals that are too narrow.
Values are counted in whole millionths, the precision in which they are written. Sums of integers are exact,
so no result depends on the order of queries or on the size of blocks.

Symbols: N queries; M columns, one per metric or pair of rows; C clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_UNITS_PER_ONE = 1e6
_MOST_RANDOM_NUMBERS_AT_ONCE = 2**21


def cluster_codes(labels: IntArray) -> IntArray:
    """The cluster of each query: queries with one label share it, a query without a label has its own.

    Args:
        labels: int [N], a code per label, -1 where the label is unknown.
    Returns:
        int [N], codes 0..C-1.
    """
    labels_or_own = np.where(labels >= 0, labels, labels.max(initial=0) + 1 + np.arange(len(labels)))
    return np.unique(labels_or_own, return_inverse=True)[1]


def bootstrap_interval(
    values: FloatArray, clusters: IntArray, samples: int, seed: int, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of each column's mean, from resampled clusters.

    Args:
        values: float [N, M].
        clusters: int [N], codes 0..C-1.
        samples: number of resamples.
        seed: the same seed draws the same resamples of the same clusters.
        level: the interval's coverage.
    Returns:
        low and high, float [M] each; NaN where C < 2, since one cluster says nothing about the spread.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    sums, sizes = _cluster_sums(values, clusters)
    if len(sizes) < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    random = np.random.default_rng(seed)
    means = [(counts @ sums) / (counts @ sizes)[:, None] for counts in resamples(random, samples, len(sizes))]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0) / _UNITS_PER_ONE
    return low, high


class GroupIntervals(NamedTuple):
    """Intervals of groups of queries, float [G, M] each.

    mean_low, mean_high: of the group's mean; difference_low, difference_high: of the group's mean minus the
    mean of all queries.
    """

    mean_low: FloatArray
    mean_high: FloatArray
    difference_low: FloatArray
    difference_high: FloatArray


def bootstrap_group_intervals(
    values: FloatArray, groups: IntArray, clusters: IntArray, samples: int, seed: int, level: float = 0.95
) -> GroupIntervals:
    """Percentile intervals of groups' means, and of their differences to the mean of all queries.

    Clusters of all queries are resampled, so that the size of a group varies, too. A resample that has no
    query of a group says nothing about it.

    Args:
        values: float [N, M].
        groups: int [N], codes 0..G-1; queries of one cluster may be in different groups.
        clusters: int [N], codes 0..C-1.
        samples, seed, level: as in `bootstrap_interval`.
    Returns:
        NaN where C < 2.
    """
    group_count, columns = int(groups.max()) + 1, values.shape[1]
    sums, sizes = _cluster_sums(values, clusters * group_count + groups, (clusters.max() + 1) * group_count)
    sums, sizes = sums.reshape(-1, group_count * columns), sizes.reshape(-1, group_count)
    if len(sizes) < 2:
        return GroupIntervals(*(np.full((group_count, columns), np.nan) for _ in GroupIntervals._fields))
    random = np.random.default_rng(seed)
    means, differences = [], []
    for counts in resamples(random, samples, len(sizes)):
        group_sums, group_sizes = (
            (counts @ sums).reshape(-1, group_count, columns),
            (counts @ sizes)[..., None],
        )
        with np.errstate(invalid="ignore"):
            group_means = group_sums / group_sizes
        means.append(group_means)
        differences.append(group_means - (group_sums.sum(axis=1) / group_sizes.sum(axis=1))[:, None])
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = [
        np.nanquantile(np.concatenate(each), tails, axis=0) / _UNITS_PER_ONE for each in (means, differences)
    ]
    return GroupIntervals(*ends[0], *ends[1])


def group_means(values: FloatArray, groups: IntArray) -> FloatArray:
    """The mean of each group of queries.

    Args:
        values: float [N, M].
        groups: int [N], codes 0..G-1, each of which occurs.
    Returns:
        float [G, M].
    """
    sums, sizes = _cluster_sums(values, groups)
    return sums / sizes[:, None] / _UNITS_PER_ONE


def group_contrasts(values: FloatArray, groups: IntArray) -> FloatArray:
    """Columns for `randomisation_test` of "a group's mean is the mean of all queries".

    A query's residual counts N / n - 1 in its own group of n queries, and -1 in any other. The mean of such a
    column is the group's mean minus the mean of all queries; its spread under random signs is what that
    difference has where the group makes none, including that the group is a part of all queries.

    Args:
        values: float [N, M].
        groups: int [N], codes 0..G-1.
    Returns:
        float [N, G, M].
    Source: Cameron, Gelbach & Miller, Bootstrap-based improvements for inference with clustered errors,
        Review of Economics and Statistics 90, 2008: the wild cluster bootstrap that imposes the hypothesis.
    """
    sizes = np.bincount(groups)
    member = groups[:, None] == np.arange(len(sizes))
    weights = np.where(member, len(groups) / np.maximum(sizes, 1), 0) - 1
    return weights[:, :, None] * (values - values.mean(axis=0))[:, None, :]


def randomisation_test(differences: FloatArray, clusters: IntArray, samples: int, seed: int) -> FloatArray:
    """Two-sided p of "the mean difference is 0", by flipping the signs of whole clusters.

    All 2^C flips are tried where these are at most `samples`. Otherwise that many random ones are drawn, and
    the observed signs are counted with them, so that no p is 0.

    Args:
        differences: float [N, M], of the same queries under two rows.
        clusters: int [N], codes 0..C-1.
        samples: number of random flips.
        seed: the same seed draws the same flips.
    Returns:
        float [M], the p value of each column.
    Source: Smucker et al., A comparison of statistical significance tests for IR evaluation, CIKM 2007.
    """
    sums, sizes = _cluster_sums(differences, clusters)
    observed = np.abs(sums.sum(axis=0))
    exact = len(sizes) < 63 and 2 ** len(sizes) <= samples
    blocks = (
        _every_sign(len(sizes)) if exact else _random_signs(np.random.default_rng(seed), samples, sums.shape)
    )
    extreme, tried = np.zeros(differences.shape[1], np.int64), 0
    for signs in blocks:
        extreme += (np.abs(signs @ sums) >= observed).sum(axis=0)
        tried += len(signs)
    return extreme / tried if exact else (extreme + 1) / (tried + 1)


def holm(p: FloatArray) -> FloatArray:
    """p values adjusted for their number, so that any false alarm among them is as rare as promised.

    Args:
        p: float [P].
    Returns:
        float [P], in the same order.
    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _cluster_sums(values: FloatArray, clusters: IntArray, count: int = 0) -> tuple[FloatArray, FloatArray]:
    """Of each cluster the sum of its values in whole millionths, [C, M], and its number of queries, [C].

    Args:
        count: C, where it is more than the clusters that occur.
    """
    whole = np.rint(values * _UNITS_PER_ONE)
    sizes = np.bincount(clusters, minlength=count).astype(np.float64)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, clusters, whole)
    return sums, sizes


def _block_lengths(rows: int, columns: int) -> Iterator[int]:
    """Splits a random array of [rows, columns] into blocks of whole rows that fit in memory."""
    length = max(1, _MOST_RANDOM_NUMBERS_AT_ONCE // max(columns, 1))
    for start in range(0, rows, length):
        yield min(length, rows - start)


def resamples(
    random: np.random.Generator, samples: int, count: int, columns: int = 0
) -> Iterator[FloatArray]:
    """How often each of `count` clusters is drawn: blocks of [block, count], `samples` rows in all.

    A block has few enough rows that an array of [block, columns] fits in memory, too.
    """
    for rows in _block_lengths(samples, max(count, columns)):
        picked = random.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(picked.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _random_signs(random: np.random.Generator, samples: int, shape: tuple[int, ...]) -> Iterator[FloatArray]:
    """Random signs of the clusters whose sums have the shape [C, M]: blocks of [block, C].

    A block has few enough rows that its product with the sums, [block, M], fits in memory, too.
    """
    count = shape[0]
    for rows in _block_lengths(samples, max(shape)):
        yield np.where(random.random((rows, count)) < 0.5, 1.0, -1.0)


def _every_sign(count: int) -> Iterator[FloatArray]:
    """All 2^count combinations of signs, [2^count, count], in one block."""
    yield np.where(np.arange(2**count)[:, None] >> np.arange(count) & 1, 1.0, -1.0)
