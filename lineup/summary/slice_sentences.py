"""The sentences on slices: where the best row is weakest, and where another row beats it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lineup.comparison.comparison import SIGNIFICANCE_LEVEL, Comparison
from lineup.evaluation.figure_tables import Difference
from lineup.slices.slices import Slice
from lineup.summary import tables
from lineup.summary.rich_text import Code, Data, Listing, Span, Text

MOST_SHOWN = 3
_WHERE_ALL_ARE = (
    "p is Holm-adjusted for all groups, which are in metrics/slices.csv; "
    "data/raw/attributes.csv adds attributes of your own."
)
_PLAIN_NAME = re.compile(r"[\w .()%/-]+")


def weaknesses(compared: Comparison, slices: Sequence[Slice]) -> list[Listing]:
    """Where the best row is below its mean, and where another row beats it, by more than chance.

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
    return [*listings, Listing((_WHERE_ALL_ARE,), [])]


def _weakest(best: str, slices: Iterable[Slice]) -> Listing:
    weaker = [each for each in slices if _is_beyond_chance(each.to_mean) and each.to_mean.value < 0]
    weaker.sort(key=lambda each: each.to_mean.value)
    if not weaker:
        return Listing(
            (
                Code(best),
                " is below its mean by more than chance in no group of queries.",
            ),
            [],
        )
    items: list[Text] = [
        (
            *_group(each),
            f": {_mean(each.mean)}, {_mean(-each.to_mean.value)} below its mean of "
            f"{_mean(each.mean - each.to_mean.value)} {_certainty(each.to_mean)}; {each.queries:,} queries",
        )
        for each in weaker[:MOST_SHOWN]
    ]
    return Listing((Code(best), f" is below its mean by more than chance in {_groups(len(weaker))}:"), items)


def _beaten(best: str, own: dict[tuple[str, str], Slice], others: Iterable[Slice]) -> Listing:
    strongest: dict[tuple[str, str], tuple[float, Slice, Difference]] = {}
    for each in others:
        key, ahead = (each.attribute, each.group), each.to_best
        if ahead and _is_beyond_chance(ahead) and ahead.value > strongest.get(key, (0.0,))[0]:
            strongest[key] = (ahead.value, each, ahead)
    metric = next(iter(own.values())).metric
    beaten = sorted(strongest.values(), key=lambda entry: -entry[0])
    if not beaten:
        text = f" in {metric} by more than chance in a group of queries."
        return Listing(("No other row beats ", Code(best), text), [])
    items: list[Text] = [
        (
            *_group(each),
            ": ",
            Code(each.model),
            f" {_mean(each.mean)}, {_mean(ahead.value)} above "
            f"{_mean(own[each.attribute, each.group].mean)} {_certainty(ahead)}; {each.queries:,} queries",
        )
        for _, each, ahead in beaten[:MOST_SHOWN]
    ]
    return Listing(
        ("Another row beats ", Code(best), f" in {metric} by more than chance in {_groups(len(beaten))}:"),
        items,
    )


def _groups(count: int) -> str:
    if count > MOST_SHOWN:
        return f"{count} groups of queries, of which these are the {MOST_SHOWN} with the largest difference"
    return "one group of queries" if count == 1 else f"{count} groups of queries"


def _is_beyond_chance(difference: Difference) -> bool:
    return difference.p_holm is not None and difference.p_holm < SIGNIFICANCE_LEVEL


def _group(each: Slice) -> tuple[Span, ...]:
    # A name with another character could end the typewriter face.
    plain = _PLAIN_NAME.fullmatch(each.attribute)
    return Code(each.attribute) if plain else Data(each.attribute), " ", Data(each.group)


def _mean(value: float) -> str:
    return f"{value:.3f}"


def _certainty(difference: Difference) -> str:
    """The interval of a difference's size, and p."""
    sign = -1 if difference.value < 0 else 1
    ends = sorted(sign * end for end in (difference.low, difference.high) if end is not None)
    parts = [" to ".join(map(_mean, ends))] if ends else []
    parts += [tables.p_value(difference.p_holm)] if difference.p_holm is not None else []
    return f"({', '.join(parts)})"
