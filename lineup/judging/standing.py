"""What the judgements so far say about the rows."""

from __future__ import annotations

import threading

import numpy as np

from lineup.judging import overlaps, verdict
from lineup.judging.overlaps import Overlaps
from lineup.judging.pool import IntArray, Pool
from lineup.judging.session import Judged
from lineup.judging.verdict import Verdict


class Standing:
    """The verdict on the rows of a pool, again and again. Thread-safe."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._order: list[int] = []
        self._answers: IntArray = np.empty((0, 0, 0), np.int64)
        self._overlaps: Overlaps | None = None

    def verdict(self, judged: Judged) -> Verdict | None:
        """The verdict on precision_k; None for one row, and until a query is judged on which rows differ."""
        pool = self._pool
        if not judged.complete or len(pool.rows) < 2:
            return None
        with self._lock:
            if judged.order != self._order:  # the queries that are judged mostly are the first ones already
                self._order = judged.order
                self._answers = pool.ranked[:, judged.order, : pool.k].astype(np.int64)
                self._overlaps = overlaps.between(list(self._answers))
            assert self._overlaps is not None
            if not self._overlaps.tell_apart[: judged.complete].any():
                return None
            answers = self._answers
            relevance = np.full((len(pool.rows), judged.complete, pool.k), np.nan)
            for number, of_query in enumerate(judged.relevance):
                of_position = dict(zip(pool.positions(of_query), of_query.values(), strict=True))
                for row, ranked in enumerate(answers[:, number].tolist()):
                    relevance[row, number] = [of_position.get(answer, np.nan) for answer in ranked]
            return verdict.from_answers(
                dict(zip(pool.rows, answers, strict=True)),
                dict(zip(pool.rows, relevance, strict=True)),
                self._overlaps,
            )
