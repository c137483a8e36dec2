"""What a database answers to a row's own queries, beside exact search: recall, the row's metrics, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lineup.errors import UserError
from lineup.evaluation import scoring
from lineup.evaluation.averages import averages
from lineup.evaluation.quality_records import Average
from lineup.export.database import Collection, Settings, Vector
from lineup.relevance.relevance import Relevance
from lineup.search import faiss_search, pair_scores
from lineup.search.vectors import Positions, Vectors
from lineup.settings.params import Params

Floats = npt.NDArray[np.float64]

# As a service asks: for so many photos, one query at a time.
NEIGHBOURS = 10
RECALL_TARGET = 0.95
MOST_QUERIES = 1_000
_QUERIES_OF_A_TRIAL = 200
_WARM_UP_QUERIES = 10
_SEED = 0
# Of a cosine, or relative to a squared distance: two images that are this close are equally near.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Questions:
    """The queries that are asked, and what exact search answers.

    Attributes:
        queries: float32 [Q, D], as they are compared.
        asked: int [A], the queries that are asked: all, or a sample of them.
        index: the gallery, for exact search.
        relevance: of all queries.
        depth: of the rankings that are scored.
        positions: int64 [A, depth], the exact ranking of each; scores: float32 [A, depth].
    """

    queries: Vectors
    asked: Positions
    index: faiss.Index
    relevance: Relevance
    depth: int
    positions: Positions
    scores: Vectors


@dataclass(frozen=True)
class Answers:
    """positions: int64 [A, K] in the gallery, -1 behind a ranking's end; ms: milliseconds of each query."""

    positions: Positions
    ms: Floats


@dataclass(frozen=True)
class Figures:
    """How well and how fast the queries were answered.

    recalls: recall@NEIGHBOURS of each query that was asked; quality: the row's metrics; fewest: how many
    photos the shortest of the scored rankings has.
    """

    recalls: Floats
    quality: dict[str, Average]
    fewest: int
    ms: Floats

    @property
    def recall(self) -> float:
        """Mean over the queries."""
        return float(self.recalls.mean())


@dataclass(frozen=True)
class Trial:
    """Search settings that were tried, what they found of the first NEIGHBOURS, and in what median time."""

    settings: Settings
    recall: float
    median_ms: float


def questions(queries: Vectors, index: faiss.Index, relevance: Relevance, params: Params) -> Questions:
    """Ranks the queries exactly. With more than MOST_QUERIES, a sample of them, the same at each call."""
    sample = np.random.default_rng(_SEED).choice(len(queries), min(MOST_QUERIES, len(queries)), replace=False)
    asked = np.sort(sample).astype(np.int64)
    depth = relevance.required_depth(params.retrieve.depth, *params.score.cutoffs)
    excluded = relevance.excluded()
    excluded = excluded[np.isin(excluded[:, 0], asked)]
    excluded = np.column_stack([np.searchsorted(asked, excluded[:, 0]), excluded[:, 1]])
    positions, scores = faiss_search.nearest(index, queries[asked], depth, excluded)
    return Questions(queries, asked, index, relevance, depth, positions, scores)


def exact_figures(given: Questions, params: Params) -> Figures:
    """Those of exact search, timed in FAISS on this machine."""
    k = min(NEIGHBOURS, given.index.ntotal)
    ms = _timed(given, lambda query: given.index.search(query[None], k))
    quality = _quality(given.positions, given, params)
    fewest = int((given.positions >= 0).sum(axis=1).min())
    return Figures(np.ones(len(given.asked)), quality, fewest, ms)


def figures(collection: Collection, given: Questions, settings: Settings, params: Params) -> Figures:
    """Those of a database, with these settings of a search."""
    with tqdm(total=2 * len(given.asked), desc="ask", unit="query", disable=None, leave=False) as bar:
        short = ask(collection, given, NEIGHBOURS, settings, bar)
        deep = ask(collection, given, given.depth, settings, bar)
    return Figures(
        recalls(short.positions, given),
        _quality(deep.positions, given, params),
        int((deep.positions >= 0).sum(axis=1).min()),
        short.ms,
    )


def remedies(collection: Collection, given: Questions) -> list[Trial]:
    """Tries wider and wider searches, on a part of the queries, until one reaches RECALL_TARGET."""
    rows = np.linspace(0, len(given.asked) - 1, min(_QUERIES_OF_A_TRIAL, len(given.asked))).astype(np.int64)
    part = replace(given, asked=given.asked[rows], positions=given.positions[rows], scores=given.scores[rows])
    trials: list[Trial] = []
    for settings in collection.wider():
        answers = ask(collection, part, NEIGHBOURS, settings)
        recall = float(recalls(answers.positions, part).mean())
        trials.append(Trial(settings, recall, float(np.median(answers.ms))))
        if recall >= RECALL_TARGET:
            break
    return trials


def ask(
    collection: Collection, given: Questions, k: int, settings: Settings, bar: tqdm[Any] | None = None
) -> Answers:
    """Asks one query at a time for its k nearest photos, and for as many more as rankings leave out."""
    left_out: dict[int, set[int]] = {}
    for query, position in given.relevance.excluded().tolist():
        left_out.setdefault(query, set()).add(position)
    ranked = np.full((len(given.asked), k), -1, np.int64)

    def answer(vector: Vector, query: int) -> list[str]:
        return collection.nearest(vector, k + len(left_out.get(query, ())), settings)

    for query in given.asked[:_WARM_UP_QUERIES].tolist():
        answer(given.queries[query], query)
    ms = np.empty(len(given.asked))
    for number, query in enumerate(given.asked.tolist()):
        start = time.perf_counter()
        ids = answer(given.queries[query], query)
        ms[number] = (time.perf_counter() - start) * 1000
        positions = _positions(ids, given.relevance)
        allowed = [position for position in positions if position not in left_out.get(query, ())][:k]
        ranked[number, : len(allowed)] = allowed
        if bar is not None:
            bar.update()
    return Answers(ranked, ms)


def recalls(positions: Positions, given: Questions) -> Floats:
    """recall@NEIGHBOURS of each query: the share of its photos that are as near as the last exact neighbour.

    Photos that are equally near up to rounding count alike, as in ann-benchmarks.

    Args:
        positions: int64 [A, K], what was answered, -1 for none; a photo counts once.
    Returns:
        float [A] in 0..1; 1 where exact search has nothing to find.
    Source: Aumüller, Bernhardsson & Faithfull, ANN-Benchmarks, Information Systems 2020, section 2.
    """
    wanted = np.minimum((given.positions >= 0).sum(axis=1), NEIGHBOURS)
    last = given.scores[np.arange(len(wanted)), np.maximum(wanted - 1, 0)].astype(np.float64)
    cosine = given.index.metric_type == faiss.METRIC_INNER_PRODUCT
    least = last - _TOLERANCE * (1 if cosine else np.abs(last))
    answered = positions[:, :NEIGHBOURS]
    scores = pair_scores.pairwise(given.index, given.queries[given.asked], answered)
    near = (answered >= 0) & (scores >= least[:, None])
    distinct = [len(set(row[hits].tolist())) for row, hits in zip(answered, near, strict=True)]
    return np.where(wanted > 0, np.minimum(distinct, wanted) / np.maximum(wanted, 1), 1.0)


def _positions(ids: Sequence[str], relevance: Relevance) -> list[int]:
    """Where photos are in the gallery."""
    if not ids:
        return []
    names = np.array(ids).astype(np.bytes_)
    positions = np.minimum(np.searchsorted(relevance.gallery_ids, names), len(relevance.gallery_ids) - 1)
    unknown = relevance.gallery_ids[positions] != names
    if unknown.any():
        raise UserError(
            f"--into: the database answers with photo {ids[int(unknown.argmax())]!r}, which is not in the "
            "gallery; something else writes to the collection: end it, and run again"
        )
    return positions.tolist()


def _quality(positions: Positions, given: Questions, params: Params) -> dict[str, Average]:
    """The row's metrics, with intervals, over the queries that were asked."""
    everything = np.full((len(given.queries), positions.shape[1]), -1, np.int64)
    everything[given.asked] = positions
    scores = scoring.score(everything, given.relevance, params.score.cutoffs)
    # A query without a relevant image counts in no mean, and neither does one that was not asked.
    num_relevant = np.zeros_like(scores.num_relevant)
    num_relevant[given.asked] = scores.num_relevant[given.asked]
    asked = replace(scores, num_relevant=num_relevant)
    return averages(asked, given.relevance, params.score.bootstrap_samples, params.seed)


def _timed(given: Questions, search: Callable[[Vector], object]) -> Floats:
    """Wall milliseconds of each query, after a warm-up: float [A]."""
    for query in given.asked[:_WARM_UP_QUERIES]:
        search(given.queries[query])
    ms = np.empty(len(given.asked))
    for number, query in enumerate(given.asked):
        start = time.perf_counter()
        search(given.queries[query])
        ms[number] = (time.perf_counter() - start) * 1000
    return ms
