"""What one person is asked, and what was judged so far: in memory, as data/judgements.csv holds it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lineup.evaluation import judgements
from lineup.evaluation.judgements import JUNK, RELEVANT, Judgement
from lineup.judging import pool as pooling
from lineup.judging.pool import Pool

# {gallery_id: relevance}, None where the person can't tell.
Marks = Mapping[str, int | None]


class UnknownPair(Exception):
    """Something was judged that is not in the pool."""


@dataclass(frozen=True)
class Scope:
    """Which pairs are asked.

    Attributes:
        second_opinion: also those that only other people have judged.
        suspects: {query_id: gallery_id}, the only pairs that are asked; None for the whole pool.
        known: {query_id: {gallery_id: relevance}}, what qrels.csv says; such a pair is never asked.
    """

    second_opinion: bool
    suspects: Mapping[str, str] | None
    known: Mapping[str, Mapping[str, int]]


class Screen(NamedTuple):
    """What is asked of one query.

    Attributes:
        gallery_ids: in the order in which they are shown.
        same_set: whether all rows have the same first k answers.
    """

    query_id: str
    gallery_ids: list[str]
    same_set: bool


class Progress(NamedTuple):
    """How far the judging is.

    Attributes:
        judged, queries: those on which rows differ: how many are complete, of how many.
        same_judged, same_queries: likewise, of those on which all rows have the same first k answers.
        pairs: how many pairs somebody has judged.
    """

    judged: int
    queries: int
    same_judged: int
    same_queries: int
    pairs: int


class Judged(NamedTuple):
    """The queries in their random order, after those that are judged.

    Attributes:
        order: positions in the pool, of all queries.
        complete: the first so many of them are judged: somebody has seen each of the first k answers of each
            row, if only to say that they can't tell. Others may be judged in part. Which part depends on what
            was in doubt, so that they are no random sample.
        relevance: {gallery_id: 1 or 0} of each complete query; junk is 0.
    """

    order: list[int]
    complete: int
    relevance: list[dict[str, int]]


class _Query(NamedTuple):
    """What is asked of a query.

    Attributes:
        asked: positions of the answers that remain to be judged.
        same_set: whether all rows have the same first k answers.
        in_scope: whether it had any answer to judge.
        pairs: how many of its pairs somebody has judged.
        complete: see Judged.
    """

    asked: list[int]
    same_set: bool
    in_scope: bool
    pairs: int
    complete: bool


class Session:
    """Asks one person, and stores what they say. Thread-safe.

    Every browser tab is asked other queries, as long as there are any. The file may change meanwhile, by
    another person's session or by git: it is read again then.
    """

    def __init__(self, pool: Pool, judge: str, file: Path, scope: Scope, seed: int) -> None:
        """Raises UserError if the file has a fault."""
        self.pool, self.judge = pool, judge
        self._file, self._scope = file, scope
        self._ids: list[str] = pool.query_ids.tolist()
        self._position = {query_id: position for position, query_id in enumerate(self._ids)}
        self._order = pooling.query_order(self._ids, seed)
        self._tabs: dict[str, str] = {}  # {query_id: the tab that shows it, or will show it next}
        self._lock = threading.Lock()
        self._read()

    def screens(self, tab: str, count: int) -> list[Screen]:
        """The next screens of a tab, at most `count`; the same again until they are judged.

        Queries on which all rows have the same first k answers come last. Raises UserError as `read`.
        """
        with self._lock:
            self._read_if_changed()
            waiting = [query for query in self._order if self._queries[query].asked]

            def rank(query: int) -> tuple[bool, bool, bool]:
                shown_by = self._tabs.get(self._ids[query], tab)
                return self._queries[query].same_set, shown_by != tab, self._ids[query] not in self._tabs

            chosen = sorted(waiting, key=rank)[:count]
            for query in chosen:
                self._tabs.setdefault(self._ids[query], tab)
            return [self._screen(query) for query in chosen]

    def record(self, query_id: str, marks: Marks) -> None:
        """Appends a screen's judgements to the file; they are on the disk when this returns.

        Raises:
            UnknownPair: a pair is not in the pool.
            OSError: the disk fails; nothing is judged then.
        """
        query = self._position.get(query_id)
        ranked = set() if query is None else {*self.pool.ids(pooling.union(self.pool.ranked[:, query]))}
        if query is None or not marks.keys() <= ranked:
            raise UnknownPair
        now = judgements.time_now()
        said = [
            Judgement(query_id, gallery_id, relevance, self.judge, now)
            for gallery_id, relevance in marks.items()
        ]
        with self._lock:
            self._read_if_changed()
            size = self._stamp[1] if self._stamp else 0
            judgements.append(self._file, said)
            self._stamp = _stamp(self._file)
            if self._stamp is None or self._stamp[1] != size + _size_in_file(said):
                self._stamp = None  # somebody else has written as well; the file is read again
            self._by_query[query_id] += said
            self._tabs.pop(query_id, None)
            self._queries[query] = self._state(query)

    def progress(self) -> Progress:
        """How far the judging is."""
        with self._lock:
            inside = [query for query in self._queries if query.in_scope]
            differ = [not query.asked for query in inside if not query.same_set]
            same = [not query.asked for query in inside if query.same_set]
            pairs = sum(query.pairs for query in inside)
            return Progress(sum(differ), len(differ), sum(same), len(same), pairs)

    def judged(self) -> Judged:
        """What is known of the queries that are judged."""
        with self._lock:
            complete = [query for query in self._order if self._queries[query].complete]
            others = [query for query in self._order if not self._queries[query].complete]
            relevance = [
                {image: int(value == RELEVANT) for image, value in self._resolved(query).items()}
                for query in complete
            ]
            return Judged([*complete, *others], len(complete), relevance)

    def _screen(self, query: int) -> Screen:
        query_id, state = self._ids[query], self._queries[query]
        return Screen(query_id, pooling.shuffled(query_id, self.pool.ids(state.asked)), state.same_set)

    def _state(self, query: int) -> _Query:
        query_id, resolved = self._ids[query], self._resolved(query)
        said = self._by_query.get(query_id, [])
        first = self.pool.first(query, self._junk(query, resolved))
        same_set = pooling.is_same_set(first)
        if self._scope.suspects is not None:
            suspect = self._scope.suspects.get(query_id)
            answers = {} if suspect is None else {suspect: self.pool.positions([suspect])[0]}
            same_set = False
        else:
            positions = pooling.union(first)
            answers = dict(zip(self.pool.ids(positions), positions, strict=True))
        done = {judgement.gallery for judgement in said if judgement.judge == self.judge}
        done |= self._scope.known.get(query_id, {}).keys()
        if not self._scope.second_opinion:
            done |= resolved.keys()
        asked = [position for image, position in answers.items() if image not in done]
        counted = resolved.keys() & (resolved if self._scope.suspects is None else answers).keys()
        pairs = len(counted - self._scope.known.get(query_id, {}).keys())
        seen = {judgement.gallery for judgement in said} | self._scope.known.get(query_id, {}).keys()
        complete = bool(said) and seen.issuperset(
            self.pool.ids(pooling.union(self.pool.ranked[:, query, : self.pool.k]))
        )
        return _Query(asked, same_set, bool(answers), pairs, complete)

    def _resolved(self, query: int) -> dict[str, int]:
        """{gallery_id: relevance} of a query: what people judged, else what qrels.csv says."""
        query_id = self._ids[query]
        said = judgements.resolved(self._by_query.get(query_id, []))
        return {**self._scope.known.get(query_id, {}), **{image: value for (_, image), value in said.items()}}

    def _junk(self, query: int, resolved: Mapping[str, int]) -> set[int]:
        """The positions of a query's answers that are judged junk."""
        return {*self.pool.positions([image for image, value in resolved.items() if value == JUNK])} - {-1}

    def _read_if_changed(self) -> None:
        if self._stamp != _stamp(self._file):
            self._read()

    def _read(self) -> None:
        stamp, by_query = _stamp(self._file), defaultdict[str, list[Judgement]](list)
        for judgement in judgements.read(self._file):
            by_query[judgement.query].append(judgement)
        self._stamp, self._by_query = stamp, by_query  # after the file is read without a fault
        self._queries = [self._state(query) for query in range(len(self._ids))]


def _size_in_file(said: list[Judgement]) -> int:
    """How many bytes the lines take: none of their cells needs quotes."""
    lines = (",".join("" if cell is None else str(cell) for cell in judgement) + "\n" for judgement in said)
    return sum(len(line.encode()) for line in lines)


def _stamp(file: Path) -> tuple[int, int] | None:
    """Time of the last change and size of the file; None if it does not exist."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size
