"""The verdict while judging, in words. Names of rows stand between backquotes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lineup.judging.estimates import PairEstimate, RowEstimate

_MOST_PAIRS_NAMED = 8
# A wait for more than this share of the queries that are left is called one for nearly all of them.
_NEARLY_ALL = 0.9
# An interval that is narrower is a point, which it becomes when all queries are judged.
_EXACT = 1e-6


def sentences(rows: Sequence[RowEstimate], pairs: Sequence[PairEstimate], left: int, same: int) -> list[str]:
    """What the judged queries say: which rows are better than others, and which can't be told apart.

    Of the pairs that can't be told apart, those with the best row and those of neighbours are named, up to a
    number.

    Args:
        rows: the best row first.
        pairs: every two rows, in their order.
        left: number of queries that are not judged yet.
        same: number of queries on which all rows have the same answers.
    """
    if len(rows) == 1:
        return [f"`{rows[0].row}` is the only row: there is nothing to compare it with."]
    names = [row.row for row in rows]
    texts = []
    for rank, row in enumerate(names):
        worse = [pair for pair in pairs if pair.decided and pair.better == row]
        if worse:
            texts.append(f"`{row}` is better than {_listed(worse, names[rank + 1 :], len(names) - 1)}.")
    if texts and left == 0:
        texts.append(
            "All of these queries are judged: for them, this is certain. "
            "For other queries, `dvc repro` tests it in metrics/comparison.md."
        )
    undecided = [pair for pair in pairs if not pair.decided]
    neighbours = set(pairwise(names))
    named = [
        pair for pair in undecided if pair.better == names[0] or (pair.better, pair.worse) in neighbours
    ][:_MOST_PAIRS_NAMED]
    texts += [_undecided(pair, left) for pair in named]
    others = len(undecided) - len(named)
    if others:
        texts.append(
            f"{others:,} other {'pair' if others == 1 else 'pairs'} can't be told apart yet, either."
        )
    if same:
        texts.append(
            f"On {same:,} other {'query' if same == 1 else 'queries'} all rows have the same first answers, "
            "so these say nothing about which row is better."
        )
    return texts


def _undecided(pair: PairEstimate, left: int) -> str:
    both, most = f"`{pair.better}` and `{pair.worse}`", max(-pair.low, pair.high)
    if most == 0:
        return f"{both} are equally good on these queries."
    if left == 0:
        return f"{both} can't be told apart: it depends on answers that are unjudged."
    text = f"{both} can't be told apart yet (their difference is {most:.2f} at most)"
    if pair.more_queries is None:
        return f"{text}."
    if pair.more_queries > _NEARLY_ALL * left:
        return f"{text}: it takes nearly all of the {left:,} queries that are left."
    more = _rounded(pair.more_queries)
    return f"{text}: about {more:,} more {'query' if more == 1 else 'queries'} at the present rate."


def _listed(worse: Sequence[PairEstimate], after: Sequence[str], others: int) -> str:
    """The rows that are worse and by how much, all by name unless they are the last ones.

    Args:
        worse: the pairs that a row is the better one of.
        after: the rows after the better one, in order.
        others: number of all other rows.
    """
    if len(worse) == 1:
        return f"`{worse[0].worse}`, by {_interval(worse[0])}"
    names = [pair.worse for pair in worse]
    least = min(pair.low for pair in worse)
    at_least = f", by at least {_down(least):.2f}" if _down(least) else ""
    if len(worse) == others:
        return f"every other row{at_least}"
    if len(worse) > 2 and names == list(after[-len(worse) :]):
        return f"`{names[0]}` and the {len(worse) - 1} rows after it{at_least}"
    *first, last = [f"`{pair.worse}` (by {_interval(pair)})" for pair in worse]
    return f"{', '.join(first)} and {last}"


def _interval(pair: PairEstimate) -> str:
    """The interval of a positive difference, rounded so that it becomes no narrower, or its exact value."""
    if pair.high - pair.low < _EXACT:
        return f"{pair.difference:.3f}"
    low, high = _down(pair.low), -_down(-pair.high)
    return f"{low:.2f} to {high:.2f}" if low else f"{high:.2f} at most"


def _down(value: float) -> float:
    """The next hundredth below; a value that is one already keeps it in spite of its binary form."""
    return math.floor(round(value * 100, 6)) / 100


def _rounded(number: int) -> int:
    """To one digit below 100, else to two: what is said of the future is no more precise than that."""
    unit = 10 ** max(0, len(str(number)) - (1 if number < 100 else 2))
    return round(number / unit) * unit
