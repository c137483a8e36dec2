"""Bounds of means that hold at every look while a finite set is sampled without replacement, in numpy.

The bounds come from bets. Against "the mean of all values is m", a gambler with a capital of 1 bets a fixed
share f of it on each value that is drawn: where the values not yet drawn have the mean r under that claim, a
value y multiplies the capital by 1 + f (y / r - 1). If the claim is true, the capital is a martingale, and so
reaches 1 / a at any time with probability a at most (Ville's inequality). So claims against which it has done
so are given up. The capital is split evenly between several shares f, which adapts it to any variance.
The capital falls as m rises, and rises with each y. So the claims that are given up are those below a bound,
and values that are too low only make that bound lower: it stays valid.

Symbols: C columns, each a set of its own; n values drawn so far; N values in the set; J shares.
Source: Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
    Statistical Society B 86, 2024, section 5 (sampling without replacement); Orabona & Jun, Tight
    concentrations and confidence sequences from the regret of universal portfolio, 2024 (the split capital).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# More shares made no difference of 1% to the number of queries that a verdict takes.
_SHARES = (np.arange(6) + 0.5) / 6
_TOLERANCE = 2.5e-4
_MOST_STEPS = 40
# A factor is at least 1/12 and at most N, so that a product of this many is still a float.
_FACTORS_PER_PRODUCT = 32
_VALUES_AT_ONCE = 2**15  # their arrays fit in the processor's cache


@dataclass(frozen=True)
class Draws:
    """Values of C sets, in the order in which they were drawn.

    Attributes:
        values: float [C, n], at least 0.
        in_set: bool [C, n], whether a value belongs to the column's set; others are passed over.
        sizes: int [C], N of each column.
    """

    values: FloatArray
    in_set: BoolArray
    sizes: IntArray

    def __post_init__(self) -> None:
        if (self.values < 0).any() or (self.in_set.sum(axis=1) > self.sizes).any():
            raise ValueError("values are negative, or more were drawn than a set has")


def lower_bounds(draws: Draws, error_rates: FloatArray) -> FloatArray:
    """Below each column's mean at every look, with probability 1 - error rate.

    Args:
        error_rates: float [C], the probability that the bound of a column is ever too high.
    Returns:
        float [C], at least the sum of what was drawn, divided by N; 0 for an empty set.
    """
    bets, sizes, thresholds = _Bets(draws), np.maximum(draws.sizes, 1), -np.log(error_rates)
    given_up, held = bets.drawn / sizes, bets.never_won / sizes
    # The square root of the log capital is nearly a straight line in m, which is 0 at the mean of what was
    # drawn. So a few secants find where it crosses the threshold.
    count = np.maximum(bets.counts, 1)
    last, last_height = bets.drawn / count, -np.sqrt(thresholds)
    guess = last - bets.deviations * np.sqrt(2 * thresholds / count)
    for _ in range(_MOST_STEPS):
        active = np.flatnonzero(held - given_up > _TOLERANCE)
        if not len(active):
            break
        low, high, point = given_up[active], held[active], guess[active]
        point = np.where((point > low) & (point < high), point, (low + high) / 2)
        point = np.clip(point, low + _TOLERANCE * 0.9, high - _TOLERANCE * 0.9)
        capital = bets.log_capital(active, point)
        reached = capital >= thresholds[active]
        given_up[active], held[active] = np.where(reached, point, low), np.where(reached, high, point)
        height = np.sqrt(np.maximum(capital, 0)) - np.sqrt(thresholds[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            guess[active] = point - height * (point - last[active]) / (height - last_height[active])
        last[active], last_height[active] = point, height
    return given_up


def log_capitals(draws: Draws, means: FloatArray) -> FloatArray:
    """The log of what each share has made of a capital of 1 by betting against "the mean is at most `means`".

    Args:
        means: float [C], above the sum of what was drawn, divided by N.
    Returns:
        float [C, J]; `merged` gives the capital of all shares together.
    """
    return _Bets(draws).log_capitals(np.arange(len(means)), means)


def merged(log_capitals: FloatArray) -> FloatArray:
    """The log of the mean over the shares: float [C] of float [C, J]."""
    highest = log_capitals.max(axis=1)
    return highest + np.log(np.exp(log_capitals - highest[:, None]).mean(axis=1))


class _Bets:
    """What was drawn, prepared for bets against many claims.

    Attributes:
        drawn, counts, deviations: of each column's draws the sum, the number, and the standard deviation.
        never_won: of each column the least sum of its set under which no draw exceeded the mean of what was
            left, so that no bet against it has won.
    """

    def __init__(self, draws: Draws) -> None:
        values = np.where(draws.in_set, draws.values, 0)
        sums = np.cumsum(values, axis=1)
        self._sizes = draws.sizes
        self.drawn = sums[:, -1] if sums.shape[1] else np.zeros(len(sums))
        self.counts = draws.in_set.sum(axis=1)
        squares = (values**2).sum(axis=1) / np.maximum(self.counts, 1)
        self.deviations = np.sqrt(np.maximum(squares - (self.drawn / np.maximum(self.counts, 1)) ** 2, 0))
        before = sums - values
        left = (self._sizes[:, None] - np.cumsum(draws.in_set, axis=1) + draws.in_set).astype(np.float64)
        self.never_won = np.max(before + left * values, axis=1, initial=0)
        self._before, self._scaled = _in_products(before), _in_products(left * values)
        self._in_set = _in_products(draws.in_set.astype(np.float64))

    def log_capital(self, columns: IntArray, means: FloatArray) -> FloatArray:
        """The log of the capital of all shares, float [A], of the columns [A] under the claims means [A]."""
        return merged(self.log_capitals(columns, means))

    def log_capitals(self, columns: IntArray, means: FloatArray) -> FloatArray:
        """The same of each share: float [A, J]."""
        step = max(1, _VALUES_AT_ONCE // max(1, self._before[0].size)) if len(columns) else 1
        logs = np.empty((len(columns), len(_SHARES)))
        for start in range(0, len(columns), step):
            block = columns[start : start + step]
            sums = (means[start : start + step] * self._sizes[block])[:, None, None]
            # y / r - 1, where r is the mean of the values that were left before y was drawn; 0 for others.
            gains = (self._scaled[block] / (sums - self._before[block]) - 1) * self._in_set[block]
            for j, share in enumerate(_SHARES):
                products = np.multiply.reduce(1 + share * gains, axis=1)
                logs[start : start + step, j] = np.log(products).sum(axis=1)
        return logs


def _in_products(values: FloatArray) -> FloatArray:
    """[C, n], with zeros added, as [C, _FACTORS_PER_PRODUCT, number of products]."""
    columns, count = values.shape
    products = -(-count // _FACTORS_PER_PRODUCT)
    padded = np.zeros((columns, products * _FACTORS_PER_PRODUCT))
    padded[:, :count] = values
    return padded.reshape(columns, _FACTORS_PER_PRODUCT, products)
