"""Which answers to a query are asked, after what people have said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lineup.judging import pool as pooling
from lineup.judging.pool import Pool
from lineup.relevance import judgements
from lineup.relevance.judgements import JUNK, Judgement


@dataclass(frozen=True)
class Scope:
    """Which pairs one person is asked.

    Attributes:
        judge: the person's name.
        second_opinion: also those that only other people have judged.
        only: {query_id: gallery_ids}, the only pairs that are asked; None for the whole pool.
        again: {judgement: its number of lines} of those that were there before and are asked again.
        known: {query_id: {gallery_id: relevance}}, what qrels.csv says; such a pair is never asked.
    """

    judge: str
    second_opinion: bool = False
    only: Mapping[str, Collection[str]] | None = None
    known: Mapping[str, Mapping[str, int]] | None = None
    again: Mapping[Judgement, int] = field(default_factory=dict)

    def known_of(self, query_id: str) -> Mapping[str, int]:
        """What qrels.csv says about a query: {gallery_id: relevance}."""
        return (self.known or {}).get(query_id, {})


class Question(NamedTuple):
    """What is asked of a query.

    Attributes:
        asked: positions of the answers that remain to be judged.
        same_set: whether all rows have the same first k answers, so that the query is asked last.
        differs: whether they have others, before any answer is called junk: then it counts for the verdict.
        in_scope: whether it had any answer to judge.
        pairs: how many of its pairs somebody has judged.
        complete: whether somebody has seen each of the first k answers of each row, if only to say that they
            can't tell.
    """

    asked: list[int]
    same_set: bool
    differs: bool
    in_scope: bool
    pairs: int
    complete: bool


def relevance(said: Iterable[Judgement], known: Mapping[str, int]) -> dict[str, int]:
    """{gallery_id: relevance} of a query: what people judged, else what qrels.csv says."""
    return {**known, **{image: value for (_, image), value in judgements.resolved(said).items()}}


def question(pool: Pool, query: int, said: Sequence[Judgement], scope: Scope) -> Question:
    """What remains to be asked of a query.

    Args:
        query: its position in the pool.
        said: what people said about it.
    """
    query_id = str(pool.query_ids[query])
    known = scope.known_of(query_id)
    resolved = relevance(said, known)
    junk = {*pool.positions([image for image, value in resolved.items() if value == JUNK])} - {-1}
    first = pool.first(query, junk)
    if scope.only is None:
        answers, same_set = pooling.union(first), pooling.is_same_set(first)
    else:
        of_pool = pool.positions(scope.only.get(query_id, ()))
        answers, same_set = [position for position in of_pool if position >= 0], False
    images = pool.ids(answers)
    own = Counter(judgement for judgement in said if judgement.judge == scope.judge)
    new = [judgement for judgement, lines in own.items() if lines > scope.again.get(judgement, 0)]
    done = {judgement.gallery for judgement in new} | known.keys()
    if not scope.second_opinion:
        done |= resolved.keys()
    counted = {*images} if scope.only is not None else resolved.keys()
    before_junk = pool.first(query)
    first_of_all = pool.ids(pooling.union(before_junk))
    return Question(
        asked=[position for position, image in zip(answers, images, strict=True) if image not in done],
        same_set=same_set,
        differs=not pooling.is_same_set(before_junk),
        in_scope=bool(answers),
        pairs=len((resolved.keys() & counted) - known.keys()),
        complete=bool(said)
        and ({judgement.gallery for judgement in said} | known.keys()).issuperset(first_of_all),
    )
