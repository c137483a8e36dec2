"""Intervals and tests against scipy, against loops, and against what they promise: coverage and few false
alarms.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lineup.evaluation import significance

SINGLE = np.arange(200)


def differences(queries: int, shift: float, seed: int = 0) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(shift, 0.3, queries), 6)


def test_clusters() -> None:
    assert significance.cluster_codes(np.array([7, -1, 3, 7, -1, 3])).tolist() == [1, 2, 0, 1, 3, 0]
    assert significance.cluster_codes(np.array([-1, -1])).tolist() == [0, 1]


@pytest.mark.slow
def test_the_interval_equals_scipys() -> None:
    values = np.round(np.random.default_rng(1).beta(0.5, 0.5, 200), 6)
    low, high = significance.bootstrap_interval(values[:, None], SINGLE, samples=20_000, seed=0)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert low[0] == pytest.approx(theirs.low, abs=0.002)
    assert high[0] == pytest.approx(theirs.high, abs=0.002)


def test_clusters_are_drawn_as_a_whole() -> None:
    """Ten equal queries per label tell no more than one: the interval is that of the labels, not of ten times
    as many.
    """
    labels = np.random.default_rng(2).random(30).round(6)
    alone = significance.bootstrap_interval(labels[:, None], np.arange(30), 2_000, seed=0)
    repeated = significance.bootstrap_interval(
        np.repeat(labels, 10)[:, None], np.repeat(np.arange(30), 10), 2_000, seed=0
    )
    np.testing.assert_allclose(alone, repeated, atol=1e-12)
    wrong = significance.bootstrap_interval(np.repeat(labels, 10)[:, None], np.arange(300), 2_000, seed=0)
    assert (wrong[1] - wrong[0])[0] < 0.5 * (alone[1] - alone[0])[0]


@pytest.mark.slow
def test_unequal_clusters_weigh_by_their_queries() -> None:
    """A naive resampling of whole clusters, mean over all their queries."""
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), random.integers(1, 9, 12))
    values = random.random(len(groups)).round(6)
    means = []
    for _ in range(20_000):
        drawn = random.integers(12, size=12)
        means.append(np.concatenate([values[groups == c] for c in drawn]).mean())
    low, high = significance.bootstrap_interval(values[:, None], groups, 20_000, seed=0)
    assert [low[0], high[0]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)


def test_95_of_100_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(4)
    values = random.random((60, 400)).round(6)  # 400 collections of 60 queries; the truth is 0.5
    low, high = significance.bootstrap_interval(values, np.arange(60), 1_000, seed=0)
    assert 0.91 < np.mean((low < 0.5) & (high > 0.5)) < 0.98


def test_one_cluster_tells_no_spread() -> None:
    low, high = significance.bootstrap_interval(np.array([[0.1], [0.9]]), np.array([0, 0]), 100, seed=0)
    assert np.isnan(low).all() and np.isnan(high).all()


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05])
def test_the_random_test_equals_scipys(shift: float) -> None:
    values = differences(200, shift)
    ours = significance.randomisation_test(values[:, None], SINGLE, 20_000, seed=0)[0]
    theirs = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        batch=1_000,
        rng=np.random.default_rng(9),
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.015)


@settings(max_examples=40)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_the_exact_test_equals_scipys_and_all_flips(tenths: list[int]) -> None:
    """Few queries with many equal differences: ties with the observed mean must count, whatever the rounding."""
    values = np.array(tenths) / 10
    ours = significance.randomisation_test(values[:, None], np.arange(len(values)), 1_000, seed=0)[0]
    flips = [
        abs(sum(s * t for s, t in zip(signs, tenths, strict=True))) >= abs(sum(tenths))
        for signs in product((-1, 1), repeat=len(tenths))
    ]
    assert ours == sum(flips) / len(flips)
    # In whole tenths: with 0.1 and 0.2 scipy misses ties with a mean of 0, by its last bits.
    theirs = stats.permutation_test(
        (np.array(tenths),), np.mean, permutation_type="samples", n_resamples=10_000, vectorized=True
    ).pvalue
    assert ours == pytest.approx(theirs)


def test_clusters_are_flipped_as_a_whole() -> None:
    values = differences(8, 0.2)
    alone = significance.randomisation_test(values[:, None], np.arange(8), 1_000, seed=0)
    repeated = significance.randomisation_test(
        np.repeat(values, 5)[:, None], np.repeat(np.arange(8), 5), 1_000, seed=0
    )
    assert alone == repeated


def test_equal_models_are_told_apart_as_often_as_promised() -> None:
    values = np.random.default_rng(6).normal(0, 1, (50, 600)).round(6)
    p = significance.randomisation_test(values, np.arange(50), 2_000, seed=0)
    assert 0.03 < np.mean(p < 0.05) < 0.075
    assert significance.randomisation_test(np.zeros((50, 1)), np.arange(50), 2_000, seed=0)[0] == 1
    assert significance.randomisation_test(np.ones((50, 1)), np.arange(50), 2_000, seed=0)[0] == 1 / 2_001


def test_neither_the_order_of_queries_nor_the_size_of_blocks_changes_a_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(7)
    values, groups = random.random((90, 3)).round(6), np.arange(90) % 30
    order = random.permutation(90)
    before = (
        significance.bootstrap_interval(values, groups, 500, 0),
        significance.randomisation_test(values - 0.5, groups, 500, 0),
    )
    monkeypatch.setattr(significance, "_MOST_RANDOM_NUMBERS_AT_ONCE", 100)
    after = (
        significance.bootstrap_interval(values[order], groups[order], 500, 0),
        significance.randomisation_test(values[order] - 0.5, groups[order], 500, 0),
    )
    np.testing.assert_array_equal(np.vstack(before), np.vstack(after))


def test_holm_by_hand() -> None:
    assert significance.holm(np.array([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert significance.holm(np.array([0.9, 0.6])).tolist() == [1, 1]
    assert significance.holm(np.array([0.02])).tolist() == [0.02]


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p: list[float]) -> None:
    """Source: Holm, 1979: reject the smallest while p <= level / (number left), then stop."""
    adjusted = significance.holm(np.array(p))
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[i] * (len(p) - step) > level:
                break
            rejected.add(i)
        assert set(np.flatnonzero(adjusted <= level)) == rejected
