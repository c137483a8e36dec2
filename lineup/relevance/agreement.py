"""Whether judges agree: the pairs on which they don't, and Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from lineup.relevance.judgements import Judgement, latest


class Disagreement(NamedTuple):
    """A pair on which judges say different things.

    Attributes:
        query, gallery: image ids.
        relevances: {judge: relevance}, sorted by judge, without those who can't tell.
    """

    query: str
    gallery: str
    relevances: Mapping[str, int]


class Agreement(NamedTuple):
    """How far two judges agree on the pairs that both of them judged.

    Attributes:
        first, second: the judges, sorted.
        pairs: how many pairs both judged; at least 1.
        agreed: how many of these they judged alike.
        kappa: Cohen's kappa; None if chance alone would make them agree on every pair.
    """

    first: str
    second: str
    pairs: int
    agreed: int
    kappa: float | None


def disagreements(judgements: Iterable[Judgement]) -> list[Disagreement]:
    """The pairs on which at least two judges differ, sorted by query and gallery image."""
    return [
        Disagreement(query, gallery, relevances)
        for (query, gallery), relevances in _relevances(judgements).items()
        if len(set(relevances.values())) > 1
    ]


def agreements(judgements: Iterable[Judgement]) -> list[Agreement]:
    """How far each two judges agree who have judged a pair in common, sorted by their names."""
    judged_by_both: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for relevances in _relevances(judgements).values():
        for first, second in combinations(relevances, 2):
            both = (relevances[first], relevances[second])
            judged_by_both.setdefault((first, second), []).append(both)
    return [
        Agreement(*judges, len(both), sum(a == b for a, b in both), cohens_kappa(both))
        for judges, both in sorted(judged_by_both.items())
    ]


def cohens_kappa(both: Sequence[tuple[int, int]]) -> float | None:
    """Agreement beyond chance: (p_o - p_e) / (1 - p_e).

    p_o is the share of pairs that both judged alike; p_e is that share if each of them kept their own
    frequencies of relevances but gave them out at random.

    Args:
        both: what the first and the second judge said about each pair; at least one pair.
    Returns:
        1 if they always agree, 0 if no more often than by chance, negative if less often; None where p_e is
        1, because both said the same one thing about every pair.
    Source: Cohen, A Coefficient of Agreement for Nominal Scales, Educational and Psychological Measurement
        20(1), 1960.
    """
    firsts, seconds = (Counter(column) for column in zip(*both, strict=True))
    observed = sum(a == b for a, b in both)
    # In whole numbers, so that p_e is 1 exactly where it should be.
    by_chance = sum(firsts[relevance] * seconds[relevance] for relevance in firsts)
    if by_chance == len(both) ** 2:
        return None
    return (observed * len(both) - by_chance) / (len(both) ** 2 - by_chance)


def _relevances(judgements: Iterable[Judgement]) -> dict[tuple[str, str], dict[str, int]]:
    """What each judge says about each pair, {(query, gallery): {judge: relevance}}, sorted throughout."""
    relevances: dict[tuple[str, str], dict[str, int]] = {}
    for (query, gallery, judge), judgement in sorted(latest(judgements).items()):
        if judgement.relevance is not None:
            relevances.setdefault((query, gallery), {})[judge] = judgement.relevance
    return relevances
