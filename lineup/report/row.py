"""One row's rankings for the report, and the pairs of different labels that look alike to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.relevance.judged_relevance import JudgedRelevance
from lineup.relevance.relevance import Relevance
from lineup.storage import rankings

ANSWERS_SHOWN = 10
QUERIES_PER_PART = 200  # of a row's full rankings: the page reads one part when it shows a photo large
ALIKE_PAIRS_SHOWN = 200

RELEVANT, NOT_RELEVANT, UNKNOWN = "1", "0", "?"

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
ScoredPair = list[Any]  # [query, gallery image, score], as JSON


def row_data(
    ranking: rankings.Ranking, positions: IntArray, relevance: Relevance, key: str, metric: str | None
) -> dict[str, Any]:
    """What the page's scripts read as LINEUP_ROWS[row].

    Args:
        ranking: of the row; its scores are float32 [Q, K].
        positions: int [Q, K] of gallery images by rank, numbered as in `relevance`, -1 behind a ranking's
            end.
        relevance: of the same queries and gallery.
        key: of the collection.
        metric: cosine or l2; None for a refinement, whose scores are of its own kind.
    Returns:
        Of each query's first ANSWERS_SHOWN images `answers` (gallery numbers), `scores` and `marks` (a
        character each: RELEVANT, NOT_RELEVANT or UNKNOWN); `first`, {query: [rank, gallery number, score]} of
        the first relevant image where it comes later; `alike`, see `alike_pairs`.
    """
    relevant, known = relevance.is_relevant(positions), is_known(relevance, positions)
    scores = ranking.scores.astype(np.float64)
    marks = np.where(relevant, RELEVANT, np.where(known, NOT_RELEVANT, UNKNOWN))
    lengths = (positions[:, :ANSWERS_SHOWN] >= 0).sum(axis=1).tolist()
    return {
        "collection": key,
        "metric": metric,
        "answers": [positions[q, :n].tolist() for q, n in enumerate(lengths)],
        "scores": [[_short(float(value)) for value in scores[q, :n]] for q, n in enumerate(lengths)],
        "marks": ["".join(marks[q, :n].tolist()) for q, n in enumerate(lengths)],
        "first": _late_first_hits(positions, scores, relevant),
        "alike": alike_pairs(positions, scores, relevance),
    }


def rank_parts(
    ranking: rankings.Ranking, positions: IntArray, key: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """A row's rankings in full, as the page's scripts read them from LINEUP_RANKS[row/part].

    Args:
        ranking, positions, key: as `row_data` takes them.
    Yields:
        Each part's number, and of its QUERIES_PER_PART queries the `answers` and `scores`.
    """
    scores = ranking.scores.astype(np.float64)
    lengths = (positions >= 0).sum(axis=1).tolist()
    for part, start in enumerate(range(0, len(positions), QUERIES_PER_PART)):
        queries = range(start, min(start + QUERIES_PER_PART, len(positions)))
        yield (
            part,
            {
                "collection": key,
                "answers": [positions[q, : lengths[q]].tolist() for q in queries],
                "scores": [[_short(value) for value in scores[q, : lengths[q]].tolist()] for q in queries],
            },
        )


def is_known(relevance: Relevance, positions: IntArray) -> BoolArray:
    """Whether it is known if the images of rankings are relevant.

    With qrels.csv it always is: what it does not name is not relevant. Labels may be missing, and people may
    not have judged a pair.

    Args:
        positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end.
    Returns:
        bool [Q, K], False behind a ranking's end.
    """
    if isinstance(relevance, JudgedRelevance):
        return relevance.is_known_at(positions) & (positions >= 0)
    if relevance.source == "qrels":
        return positions >= 0
    labels = np.where(positions >= 0, relevance.gallery_labels[positions], -1)
    return (labels >= 0) & (relevance.query_labels >= 0)[:, None]


def _late_first_hits(positions: IntArray, scores: FloatArray, relevant: BoolArray) -> dict[str, list[Any]]:
    """{query: [rank, gallery number, score]} where the first relevant image is not among those shown."""
    late = np.flatnonzero(relevant.any(axis=1) & ~relevant[:, :ANSWERS_SHOWN].any(axis=1))
    rank = relevant[late].argmax(axis=1)
    return {
        str(q): [r + 1, int(positions[q, r]), _short(float(scores[q, r]))]
        for q, r in zip(late.tolist(), rank.tolist(), strict=True)
    }


def alike_pairs(positions: IntArray, scores: FloatArray, relevance: Relevance) -> list[ScoredPair]:
    """Pairs with known, different labels that nobody judged relevant, once each.

    Returns:
        The ALIKE_PAIRS_SHOWN most similar.
    """
    labels = np.where(positions >= 0, relevance.gallery_labels[positions], -1)
    query_labels = relevance.query_labels[:, None]
    different = (labels >= 0) & (query_labels >= 0) & (labels != query_labels)
    queries, ranks = np.nonzero(different & ~relevance.is_relevant(positions))
    # Where photos are queries and gallery images at once, each pair may come twice in succession.
    order = np.lexsort((ranks, queries, -scores[queries, ranks]))[: 2 * ALIKE_PAIRS_SHOWN]
    pairs: dict[frozenset[bytes], ScoredPair] = {}
    for q, r in zip(queries[order].tolist(), ranks[order].tolist(), strict=True):
        g = int(positions[q, r])
        ids = frozenset((str(relevance.query_ids[q]).encode("ascii"), bytes(relevance.gallery_ids[g])))
        pairs.setdefault(ids, [q, g, _short(float(scores[q, r]))])
    return [*pairs.values()][:ALIKE_PAIRS_SHOWN]


def _short(score: float) -> float:
    return float(f"{score:.5g}")
