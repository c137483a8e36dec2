"""The bounds by betting: by hand, against loops, over every order of a small set, and by simulation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.judging import confidence_sequence
from lineup.judging.confidence_sequence import Draws

SHARES = (np.arange(6) + 0.5) / 6


def draws(values: list[list[float]], size: int) -> Draws:
    array = np.array(values, np.float64)
    return Draws(array, np.ones(array.shape, bool), np.full(len(array), size))


def naive_capital(values: np.ndarray, size: int, mean: float) -> float:
    """Bets one by one, and one share of the capital at a time."""
    capitals = np.ones(len(SHARES))
    for number, value in enumerate(values):
        mean_of_rest = (size * mean - values[:number].sum()) / (size - number)
        for j, share in enumerate(SHARES):
            capitals[j] *= 1 - share + share * value / mean_of_rest
    return float(capitals.mean())


def test_two_bets_by_hand() -> None:
    """A set of three with the mean 0.5 has the sum 1.5. The first value, 1, is twice the mean: a share f wins f.
    The rest has the sum 0.5. The second value, 0, loses the share.
    """
    logs = confidence_sequence.log_capitals(draws([[1, 0]], size=3), np.array([0.5]))
    np.testing.assert_allclose(logs, [np.log((1 + SHARES) * (1 - SHARES))])
    assert confidence_sequence.merged(logs)[0] == pytest.approx(np.log(np.mean(1 - SHARES**2)))


def test_values_of_no_set_are_passed_over() -> None:
    values = np.array([[0.2, 9, 0.7, 9, 9, 0.4]])
    passed = Draws(values, values < 1, np.array([8]))
    error = np.array([0.4])
    assert confidence_sequence.lower_bounds(passed, error) == pytest.approx(
        confidence_sequence.lower_bounds(draws([[0.2, 0.7, 0.4]], size=8), error), abs=1e-12
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=70), st.integers(0, 60), st.sampled_from([0.3, 0.01])
)
def test_a_bound_is_where_the_capital_reaches_its_goal(tenths: list[int], more: int, error: float) -> None:
    values, size = np.array(tenths) / 10, len(tenths) + more
    bound = confidence_sequence.lower_bounds(draws([values.tolist()], size), np.array([error]))[0]
    least = values.sum() / size
    assert bound >= least - 1e-12
    if bound > least + 1e-12:
        assert naive_capital(values, size, bound) >= 1 / error * (1 - 1e-9)
    assert naive_capital(values, size, bound + 3e-4) < 1 / error


def test_in_all_orders_of_a_small_set_the_mean_capital_is_one() -> None:
    """The capital is a martingale under the true mean, exactly, after any number of draws."""
    values = np.array([0.0, 0.1, 0.1, 0.6, 0.9, 1.0])
    orders = np.array(list(permutations(values)))
    for drawn in range(1, 6):
        each = Draws(orders[:, :drawn], np.ones((720, drawn), bool), np.full(720, 6))
        logs = confidence_sequence.log_capitals(each, np.full(720, values.mean()))
        np.testing.assert_allclose(np.exp(logs).mean(axis=0), 1)


@pytest.mark.slow
def test_in_all_orders_of_a_small_set_few_bounds_are_ever_too_high() -> None:
    """Of the 5,040 orders of seven values, at most the promised share fails at any look; and some do."""
    values = np.array([0.0, 0.0, 0.1, 0.2, 0.8, 0.9, 1.0])
    orders, error = np.array(list(permutations(values))), 0.3
    failed = np.zeros(len(orders), bool)
    for drawn in range(1, 8):
        each = Draws(orders[:, :drawn], np.ones((len(orders), drawn), bool), np.full(len(orders), 7))
        bounds = confidence_sequence.lower_bounds(each, np.full(len(orders), error))
        failed |= bounds > values.mean() + 1e-9
    assert 0.01 < failed.mean() <= error


def test_when_all_is_drawn_the_bound_is_the_mean() -> None:
    values = np.random.default_rng(0).random((4, 50))
    bounds = confidence_sequence.lower_bounds(draws(values.tolist(), size=50), np.full(4, 0.05))
    np.testing.assert_allclose(bounds, values.mean(axis=1), atol=1e-12)


def test_nothing_drawn_and_an_empty_set() -> None:
    assert confidence_sequence.lower_bounds(draws([[], []], size=5), np.full(2, 0.05)).tolist() == [0, 0]
    empty = Draws(np.ones((1, 3)), np.zeros((1, 3), bool), np.array([0]))
    assert confidence_sequence.lower_bounds(empty, np.array([0.05])).tolist() == [0]


@pytest.mark.parametrize(("values", "size"), [([[0.5, -0.1]], 5), ([[0.5, 0.1]], 1)])
def test_impossible_draws_are_refused(values: list[list[float]], size: int) -> None:
    with pytest.raises(ValueError, match=r"negative|more were drawn"):
        draws(values, size)


def test_many_draws_do_not_overflow() -> None:
    """A set of 50,000 zeros and a few ones: single bets win thousands of times their stake."""
    values = np.zeros((1, 4000))
    values[0, ::500] = 1
    sparse = Draws(values, np.ones(values.shape, bool), np.array([50_000]))
    with np.errstate(over="raise", invalid="raise"):
        bound = confidence_sequence.lower_bounds(sparse, np.array([0.05]))[0]
    assert 8 / 50_000 <= bound < 8 / 4000
