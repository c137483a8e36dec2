"""Which gallery images are relevant to which query, where people judged pairs with `lineup judge`.

A pair is as people judged it; else as qrels.csv or labels say; else its relevance is unknown. Labels say it
where both photos have one. A pair that was judged as not relevant and one that nobody judged are never the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from lineup.relevance.judgements import JUNK, RELEVANT
from lineup.relevance.relevance import Relevance
from lineup.storage.rankings import Ranking

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def _nobody() -> IntArray:
    return np.empty((0, 3), np.int64)


@dataclass(frozen=True)
class JudgedRelevance(Relevance):
    """The relevance of pairs of which people judged some.

    Attributes:
        people: int [P, 3] of (query, gallery image, relevance), sorted, with each pair once. Pairs that
            rankings leave out anyway, such as the query itself, are not among them.
    """

    people: IntArray = field(default_factory=_nobody)

    def is_relevant(self, positions: IntArray) -> BoolArray:
        """Whether the images of rankings are known to be relevant; see `Relevance.is_relevant`."""
        judged, relevance = self._judged(positions)
        return np.where(judged, relevance == RELEVANT, super().is_relevant(positions))

    def is_known_at(self, positions: IntArray) -> BoolArray:
        """Whether it is known if the images of rankings are relevant.

        Args:
            positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end.
        Returns:
            bool [Q, K], True behind a ranking's end, where no image follows.
        """
        no_image = (positions < 0) & ~self.is_cut_short(positions)[:, None]
        return self._judged(positions)[0] | _is_known_without_people(self, positions) | no_image

    def num_relevant(self) -> IntArray:
        """R, the number of gallery images that are known to be relevant to each query: int [Q]."""
        queries, images, relevance = self.people.T
        before = self._of_pairs(super().is_relevant, queries, images)
        change = (relevance == RELEVANT).astype(np.int64) - before
        counts = super().num_relevant().copy()
        np.add.at(counts, queries, change)
        return counts

    def num_unknown(self) -> IntArray:
        """The number of gallery images whose relevance to each query is unknown: int [Q].

        What rankings leave out does not count.
        """
        unlabelled = int(np.sum(self.gallery_labels < 0))
        unknown = np.where(self.query_labels >= 0, unlabelled, len(self.gallery_ids))
        if self.source == "qrels":
            unknown = np.where(super().is_known(), 0, len(self.gallery_ids))
        settled = np.unique(np.concatenate([super().excluded(), self.people[:, :2]]), axis=0)
        queries, images = settled.T
        settled_anyway = self._of_pairs(
            lambda positions: _is_known_without_people(self, positions), queries, images
        )
        return unknown - np.bincount(queries[~settled_anyway], minlength=len(self.query_ids))

    def is_judged(self) -> BoolArray:
        """Whether people judged any image as an answer to each query: bool [Q]. Junk is no judgement here."""
        judged = self.people[self.people[:, 2] != JUNK, 0]
        return np.bincount(judged, minlength=len(self.query_ids)) > 0

    def people_pairs(self) -> set[tuple[str, str]]:
        """The ids of the pairs that people judged: (query, gallery image)."""
        queries, images = (
            self.query_ids[self.people[:, 0]],
            self.gallery_ids[self.people[:, 1]].astype(np.str_),
        )
        return {*zip(queries.tolist(), images.tolist(), strict=True)}

    def is_known(self) -> BoolArray:
        """Whether all is known of what is relevant to each query: bool [Q]."""
        return (super().is_known() | self.is_judged()) & (self.num_unknown() == 0)

    def excluded(self) -> IntArray:
        """What rankings leave out; what people judged as junk is part of it: int [E, 2]."""
        return np.concatenate([super().excluded(), self.people[self.people[:, 2] == JUNK, :2]])

    def without_junk(self, ranking: Ranking, positions: IntArray) -> tuple[Ranking, IntArray]:
        """A ranking without what people judged as junk, which was searched before they did.

        Args:
            positions: what `relevance.gallery_positions` returned.
        Returns:
            The ranking and its positions. The images behind junk move up, and -1 follows the last one.
        """
        judged, relevance = self._judged(positions)
        is_junk = judged & (relevance == JUNK)
        if not is_junk.any():
            return ranking, positions
        order = np.argsort(is_junk, axis=1, kind="stable")
        removed = np.take_along_axis(is_junk, order, axis=1)
        moved = (np.take_along_axis(each, order, axis=1) for each in (positions, ranking.positions))
        positions, in_ranking = (np.where(removed, -1, each) for each in moved)
        scores = np.where(removed, np.float32(np.nan), np.take_along_axis(ranking.scores, order, axis=1))
        return Ranking(ranking.query_ids, ranking.gallery_ids, in_ranking, scores), positions

    def is_cut_short(self, positions: IntArray) -> BoolArray:
        """Whether a ranking ends before its depth or rank R, and images follow that it lacks: bool [Q].

        It lacks them because junk was removed from it, or because people judged more images as relevant than
        was known when its depth was chosen.

        Args:
            positions: as `is_known_at` takes them, without junk.
        """
        depth, lengths = positions.shape[1], (positions >= 0).sum(axis=1)
        is_short = lengths < np.maximum(depth, self.num_relevant())
        return is_short & (lengths + self.num_junk() >= depth) & (self.num_behind(positions) > 0)

    def num_junk(self) -> IntArray:
        """How many gallery images people judged as junk for each query: int [Q]."""
        return np.bincount(self.people[self.people[:, 2] == JUNK, 0], minlength=len(self.query_ids))

    def num_behind(self, positions: IntArray) -> IntArray:
        """How many gallery images a ranking lacks that are neither junk nor the query itself: int [Q]."""
        excluded = np.unique(self.excluded(), axis=0)[:, 0]
        left = len(self.gallery_ids) - np.bincount(excluded, minlength=len(self.query_ids))
        return left - (positions >= 0).sum(axis=1)

    def _judged(self, positions: IntArray) -> tuple[BoolArray, IntArray]:
        """Whether people judged the images of rankings, and what they said: bool and int [Q, K]."""
        if not len(self.people):
            return np.zeros(positions.shape, bool), np.zeros(positions.shape, np.int64)
        people = self._keys(self.people)
        keys = np.arange(len(positions))[:, None] * len(self.gallery_ids) + positions
        at = np.minimum(np.searchsorted(people, keys), len(people) - 1)
        return (people[at] == keys) & (positions >= 0), self.people[at, 2]

    def _of_pairs(
        self, of_rankings: Callable[[IntArray], BoolArray], queries: IntArray, images: IntArray
    ) -> BoolArray:
        """What a function of rankings, int [Q, K] -> bool [Q, K], says of P single pairs: bool [P].

        queries: int [P], sorted.
        """
        counts = np.bincount(queries, minlength=len(self.query_ids))
        column = np.arange(len(queries)) - (np.cumsum(counts) - counts)[queries]
        positions = np.full((len(self.query_ids), counts.max(initial=0)), -1, np.int64)
        positions[queries, column] = images
        return of_rankings(positions)[queries, column]


def with_people(relevance: Relevance, resolved: Mapping[tuple[str, str], int]) -> Relevance:
    """The relevance where people judged pairs; unchanged if none of these pairs is of its photos.

    Args:
        resolved: what `judgements.resolved` returned.
    """
    pairs = list(resolved)
    judged = np.column_stack(
        [
            _positions(relevance.query_ids.astype(np.bytes_), [query for query, _ in pairs]),
            _positions(relevance.gallery_ids, [image for _, image in pairs]),
            np.array([*resolved.values()], np.int64),
        ]
    )
    judged = judged[(judged[:, :2] >= 0).all(axis=1)]
    width = len(relevance.gallery_ids)
    keys, left_out = (pairs[:, 0] * width + pairs[:, 1] for pairs in (judged, relevance.excluded()))
    order = np.argsort(keys)
    judged = judged[order][~np.isin(keys[order], left_out)]
    if not len(judged):
        return relevance
    given = {each.name: getattr(relevance, each.name) for each in fields(relevance)}
    return JudgedRelevance(**given, people=judged)


def _is_known_without_people(relevance: Relevance, positions: IntArray) -> BoolArray:
    """Whether qrels.csv or labels say if the images of rankings are relevant.

    qrels.csv says it of every image, if it has judgements of the query at all.

    Returns:
        bool [Q, K], False behind a ranking's end.
    """
    ranked = positions >= 0
    if relevance.source == "qrels":
        return ranked & Relevance.is_known(relevance)[:, None]
    return ranked & (relevance.gallery_labels[positions] >= 0) & (relevance.query_labels >= 0)[:, None]


def _positions(ids: npt.NDArray[np.bytes_], wanted: list[str]) -> IntArray:
    """The position of each wanted id in the sorted ids, -1 if it is not among them: int [N]."""
    values = np.array(wanted, np.bytes_)
    positions = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[positions] == values, positions, -1)
