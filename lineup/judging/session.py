"""What one person is asked, and what was judged so far: in memory, as data/judgements.csv holds it."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lineup.judging import pool as pooling
from lineup.judging import questions
from lineup.judging.pool import Pool
from lineup.judging.questions import Question, Scope
from lineup.relevance import judgements
from lineup.relevance.judgements import RELEVANT, Judgement

# After so long without a word from a tab, other tabs get its queries.
SECONDS_FOR_A_TAB = 600.0

# {gallery_id: relevance}, None where the person can't tell.
Marks = Mapping[str, int | None]


class UnknownPair(Exception):
    """Something was judged that is not in the pool."""


class Screen(NamedTuple):
    """What is asked of one query.

    Attributes:
        gallery_ids: in the order in which they are shown.
        same_set: whether all rows have the same first k answers.
    """

    query_id: str
    gallery_ids: list[str]
    same_set: bool


@dataclass(frozen=True)
class Progress:
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
        complete: the first so many of them are judged, see Question. They are the first ones of the random
            order on which rows differ, without a gap: which queries behind a gap are judged depends on their
            answers, as where a row was added, and so they are no random sample.
        relevance: {gallery_id: 1 or 0} of each complete query; junk is 0.
    """

    order: list[int]
    complete: int
    relevance: list[dict[str, int]]


class Session:
    """Asks one person, and stores what they say. Thread-safe.

    Every browser tab is asked other queries, as long as there are any. The file may change meanwhile, by
    another person's session or by git: it is read again then.
    """

    def __init__(self, pool: Pool, file: Path, scope: Scope, seed: int) -> None:
        """Raises UserError if the file has a fault."""
        self.pool, self.judge = pool, scope.judge
        self._file, self._scope = file, scope
        self._ids: list[str] = pool.query_ids.tolist()
        self._position = {query_id: position for position, query_id in enumerate(self._ids)}
        self._order = pooling.query_order(self._ids, seed)
        # {query_id: the tab that shows it, or will show it next, and until when no other tab does}
        self._tabs: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._read()

    def screens(self, tab: str, count: int) -> list[Screen]:
        """The next screens of a tab, at most `count`; the same again until they are judged.

        Queries on which all rows have the same first k answers come last. Raises UserError as `read`.
        """
        with self._lock:
            self._read_if_changed()
            waiting = [query for query in self._order if self._questions[query].asked]
            now = time.monotonic()
            self._tabs = {
                query: (shown_by, end if shown_by != tab else now + SECONDS_FOR_A_TAB)
                for query, (shown_by, end) in self._tabs.items()
                if shown_by == tab or end > now
            }

            def rank(query: int) -> tuple[bool, bool, bool]:
                shown_by, _ = self._tabs.get(self._ids[query], (tab, now))
                return self._questions[query].same_set, shown_by != tab, self._ids[query] not in self._tabs

            chosen = sorted(waiting, key=rank)[:count]
            for query in chosen:
                self._tabs.setdefault(self._ids[query], (tab, now + SECONDS_FOR_A_TAB))
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
            self._questions[query] = self._question(query)

    def leave(self, tab: str) -> None:
        """Gives the queries of a tab to others, as it is closed or loaded again."""
        with self._lock:
            self._tabs = {query: claim for query, claim in self._tabs.items() if claim[0] != tab}

    def progress(self) -> Progress:
        """How far the judging is."""
        with self._lock:
            inside = [question for question in self._questions if question.in_scope]
            differ = [not question.asked for question in inside if not question.same_set]
            same = [not question.asked for question in inside if question.same_set]
            pairs = sum(question.pairs for question in inside)
            return Progress(sum(differ), len(differ), sum(same), len(same), pairs)

    def judged(self) -> Judged:
        """What is known of the queries that are judged."""
        with self._lock:
            differ = [query for query in self._order if self._questions[query].differs]
            complete = [*itertools.takewhile(lambda query: self._questions[query].complete, differ)]
            done = {*complete}
            others = [query for query in self._order if query not in done]
            relevance = [
                {image: int(value == RELEVANT) for image, value in self._relevance(query).items()}
                for query in complete
            ]
            return Judged([*complete, *others], len(complete), relevance)

    def _screen(self, query: int) -> Screen:
        query_id, question = self._ids[query], self._questions[query]
        return Screen(query_id, pooling.shuffled(query_id, self.pool.ids(question.asked)), question.same_set)

    def _question(self, query: int) -> Question:
        return questions.question(self.pool, query, self._said(query), self._scope)

    def _relevance(self, query: int) -> dict[str, int]:
        return questions.relevance(self._said(query), self._scope.known_of(self._ids[query]))

    def _said(self, query: int) -> list[Judgement]:
        return self._by_query.get(self._ids[query], [])

    def _read_if_changed(self) -> None:
        if self._stamp != _stamp(self._file):
            self._read()

    def _read(self) -> None:
        stamp, by_query = _stamp(self._file), defaultdict[str, list[Judgement]](list)
        for judgement in judgements.read(self._file):
            by_query[judgement.query].append(judgement)
        self._stamp, self._by_query = stamp, by_query  # after the file is read without a fault
        self._questions = [self._question(query) for query in range(len(self._ids))]


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
