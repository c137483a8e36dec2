"""The sentences on slices: where the best row is weakest, and where another row beats it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lineup.evaluation import tables
from lineup.evaluation.comparison import SIGNIFICANCE_LEVEL, Comparison
from lineup.evaluation.rich_text import Code, Data, Span, Text
from lineup.evaluation.sentences import Listing
from lineup.evaluation.slices import Difference, Slice

MOST_SHOWN = 3
_PLAIN_NAME = re.compile(r"[\w .()%/-]+")


def weaknesses(compared: Comparison, slices: Sequence[Slice]) -> list[Listing]:
    """Where the best row is weaker than its mean, and where another row beats it, by more than chance.

    Empty where there is no best row, or where no attribute says anything.
    """
    if compared.best is None or not slices:
        return []
    best = compared.best.name
    own = {(each.attribute, each.group): each for each in slices if each.model == best}
    listings = [_weakest(best, own.values())]
    if len(compared.trained) > 1:
        trained = {row.name for row in compared.trained}
        others = [each for each in slices if each.model in trained - {best}]
        listings.append(_beaten(best, own, others))
    return listings


def _weakest(best: str, slices: Iterable[Slice]) -> Listing:
    weaker = [each for each in slices if _told(each.to_mean) and each.to_mean.value < 0]
    weaker.sort(key=lambda each: each.to_mean.value)
    if not weaker:
        return Listing(
            (
                "In no group of queries is ",
                Code(best),
                " below its mean by more than chance.",
            ),
            [],
        )
    items: list[Text] = [
        (
            *_group(each),
            f": {_mean(each.mean)}, {_difference(each.to_mean)} below its mean of "
            f"{_mean(each.mean - each.to_mean.value)}; {each.queries:,} queries",
        )
        for each in weaker[:MOST_SHOWN]
    ]
    return Listing(("Where ", Code(best), f" is weakest{_of(len(weaker))}:"), items)


def _beaten(best: str, own: dict[tuple[str, str], Slice], others: Iterable[Slice]) -> Listing:
    strongest: dict[tuple[str, str], tuple[float, Slice, Difference]] = {}
    for each in others:
        key, behind = (each.attribute, each.group), each.to_best
        if behind and _told(behind) and behind.value > strongest.get(key, (0.0,))[0]:
            strongest[key] = (behind.value, each, behind)
    beaten = sorted(strongest.values(), key=lambda entry: -entry[0])
    if not beaten:
        return Listing(
            ("In no group of queries does another row beat ", Code(best), " by more than chance."), []
        )
    items: list[Text] = [
        (
            *_group(each),
            ": ",
            Code(each.model),
            f" {_mean(each.mean)}, {_difference(behind)} above its "
            f"{_mean(own[each.attribute, each.group].mean)}; {each.queries:,} queries",
        )
        for _, each, behind in beaten[:MOST_SHOWN]
    ]
    return Listing(("Where another row beats ", Code(best), f"{_of(len(beaten))}:"), items)


def _of(count: int) -> str:
    """Says that there are more than those shown."""
    return f", {MOST_SHOWN} of {count} groups of queries" if count > MOST_SHOWN else ""


def _told(difference: Difference) -> bool:
    return difference.p_holm is not None and difference.p_holm < SIGNIFICANCE_LEVEL


def _group(each: Slice) -> tuple[Span, ...]:
    # A name with another character could end the typewriter face.
    plain = _PLAIN_NAME.fullmatch(each.attribute)
    return Code(each.attribute) if plain else Data(each.attribute), " ", Data(each.group)


def _mean(value: float) -> str:
    return f"{value:.3f}"


def _difference(difference: Difference) -> str:
    """The size of a difference with its interval and p."""
    sign = -1 if difference.value < 0 else 1
    ends = sorted(sign * end for end in (difference.low, difference.high) if end is not None)
    interval = f" ({' to '.join(map(_mean, ends))})" if ends else ""
    p = tables.p_value(difference.p_holm) if difference.p_holm is not None else ""
    return f"{abs(difference.value):.3f}{interval}, {p}"
