"""Draws of which each takes the numbers in turn: every number once, before one is drawn again."""

from __future__ import annotations

import math

import numpy as np

from lineup.training.data import Rows


def in_turn(count: int, size: int, first: int, last: int, key: tuple[int, ...]) -> Rows:
    """Draws `first` to `last` - 1 of an endless sequence of draws of `size` different numbers below `count`.

    The sequence is one random permutation of all numbers after another, so that each number is drawn before
    one is drawn again.

    Args:
        key: names the sequence; equal keys give equal sequences.
    Returns:
        int64 [last - first, size].
    """
    period = draws_per_period(count, size)
    draws = [np.empty((0, size), np.int64)]
    for number in range(first // period, math.ceil(last / period)):
        start = number * period
        rng = np.random.default_rng([*key, number])
        draws.append(_draws_of_period(count, size, max(first - start, 0), min(last - start, period), rng))
    return np.concatenate(draws)


def draws_per_period(count: int, size: int) -> int:
    """The fewest draws after which each number has been drawn equally often.

    There the end of a permutation is the end of a draw.
    """
    return count // math.gcd(count, size)


def _draws_of_period(count: int, size: int, first: int, last: int, rng: np.random.Generator) -> Rows:
    """As `in_turn`, for one period: each of its permutations follows from the one before."""
    permutations: list[Rows] = []
    skipped, length = 0, 0
    unfinished = np.empty(0, np.int64)  # the numbers of the draw in which the last permutation ended
    while length < last * size:
        order = rng.permutation(count)
        if len(unfinished):
            order = _with_others_first(order, unfinished, size - len(unfinished))
        length += count
        unfinished = order[count - length % size :]
        if length <= first * size:
            skipped = length
        else:
            permutations.append(order)
    return np.concatenate(permutations)[first * size - skipped : last * size - skipped].reshape(-1, size)


def _with_others_first(order: Rows, taken: Rows, needed: int) -> Rows:
    """The permutation with `needed` numbers moved to its front that are not among `taken`.

    They complete a draw that holds `taken` already.
    """
    is_free, is_behind = np.ones(len(order), bool), np.ones(len(order), bool)
    is_free[taken] = False
    front = np.flatnonzero(is_free[order])[:needed]
    is_behind[front] = False
    return np.concatenate([order[front], order[is_behind]])
