"""What the judgements so far say about the rows."""

from __future__ import annotations

import numpy as np

from lineup.evaluation import verdict
from lineup.evaluation.verdict import Verdict
from lineup.judging.pool import Pool
from lineup.judging.session import Judged


def standing(pool: Pool, judged: Judged) -> Verdict | None:
    """The verdict on the queries on which rows differ; None before the first is judged, or for one row.

    Queries on which all rows have the same first k answers would only make every difference smaller.
    """
    if not judged.shown or len(pool.rows) < 2:
        return None
    answers = pool.ranked[:, judged.queries, : pool.k].astype(np.int64)
    for number, (query, junk) in enumerate(zip(judged.queries, judged.junk, strict=False)):
        if junk:
            answers[:, number] = pool.first(query, junk)
    relevance = np.full((len(pool.rows), judged.shown, pool.k), np.nan)
    for number, of_query in enumerate(judged.relevance):
        of_position = dict(zip(pool.positions(of_query), of_query.values(), strict=True))
        of_position[-1] = 0  # behind a ranking's end there is no right answer
        for row, ranked in enumerate(answers[:, number].tolist()):
            relevance[row, number] = [of_position.get(answer, np.nan) for answer in ranked]
    return verdict.from_answers(
        dict(zip(pool.rows, answers, strict=True)), dict(zip(pool.rows, relevance, strict=True))
    )
