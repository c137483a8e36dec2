"""One row's answers for the report: what it found for each query, and what it takes for the same picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.evaluation.relevance import Relevance
from lineup.storage import rankings

SHOWN = 10  # answers per query
ALIKE = 200  # pairs of different labels

Ints = npt.NDArray[np.int64]


def row_data(
    ranking: rankings.Ranking, positions: Ints, answers: Relevance, key: str, metric: str | None
) -> dict[str, Any]:
    """positions: int [Q, K] of gallery images by rank, as numbered in `answers`, -1 behind a ranking's end.

    Per query: `answers` (gallery numbers), `scores`, `marks` ("1" right, "0" wrong, "?" nobody knows) of the
    first SHOWN, and `first`, the first right answer as [rank, gallery number, score] where it comes later.
    `alike`: the pairs of different labels with the highest scores, as [query, gallery, score].
    """
    relevant, known = answers.of(positions), known_answers(answers, positions)
    scores = ranking.scores.astype(np.float64)
    marks = np.where(relevant, "1", np.where(known, "0", "?"))
    lengths = (positions[:, :SHOWN] >= 0).sum(axis=1).tolist()
    return {
        "collection": key,
        "metric": metric,
        "answers": [positions[q, :n].tolist() for q, n in enumerate(lengths)],
        "scores": [[_short(float(value)) for value in scores[q, :n]] for q, n in enumerate(lengths)],
        "marks": ["".join(marks[q, :n].tolist()) for q, n in enumerate(lengths)],
        "first": _late_first_hits(positions, scores, relevant),
        "alike": alike(positions, scores, answers),
    }


def known_answers(answers: Relevance, positions: Ints) -> npt.NDArray[np.bool_]:
    """Whether it is known if an answer is right, bool [Q, K].

    Judgements (qrels) are complete, labels may be missing.
    """
    if answers.source == "qrels":
        return positions >= 0
    labels = np.where(positions >= 0, answers.gallery_labels[positions], -1)
    return (labels >= 0) & (answers.query_labels >= 0)[:, None]


def _late_first_hits(
    positions: Ints, scores: npt.NDArray[np.float64], relevant: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """{query: [rank, gallery number, score]} of those whose first right answer is not among the ones shown."""
    late = np.flatnonzero(relevant.any(axis=1) & ~relevant[:, :SHOWN].any(axis=1))
    rank = relevant[late].argmax(axis=1)
    return {
        str(q): [r + 1, int(positions[q, r]), _short(float(scores[q, r]))]
        for q, r in zip(late.tolist(), rank.tolist(), strict=True)
    }


def alike(positions: Ints, scores: npt.NDArray[np.float64], answers: Relevance) -> list[list[Any]]:
    """The ALIKE most similar pairs whose labels are known and differ, and that nobody judged right."""
    labels = np.where(positions >= 0, answers.gallery_labels[positions], -1)
    different = (
        (labels >= 0) & (answers.query_labels >= 0)[:, None] & (labels != answers.query_labels[:, None])
    )
    queries, ranks = np.nonzero(different & ~answers.of(positions))
    order = np.lexsort((ranks, queries, -scores[queries, ranks]))[:ALIKE]
    pairs = zip(queries[order].tolist(), ranks[order].tolist(), strict=True)
    return [[q, int(positions[q, r]), _short(float(scores[q, r]))] for q, r in pairs]


def _short(score: float) -> float:
    return float(f"{score:.5g}")
