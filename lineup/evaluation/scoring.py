"""How good a row's rankings are: the metrics of each query, their averages, and the table of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.evaluation import agreement, bounds, identification, metrics, significance
from lineup.evaluation.bounds import Bounds
from lineup.evaluation.judged_relevance import JudgedRelevance
from lineup.evaluation.judgements import Judgement, latest, resolved
from lineup.evaluation.relevance import Relevance
from lineup.evaluation.row_metrics import (
    MOST_SUFFIX,
    Average,
    EditedCopies,
    Enlarged,
    Identification,
    Judgements,
    JudgesAgreement,
    OperatingPoint,
    OwnPicture,
    Partial,
    PeopleJudged,
    Range,
    Rate,
    RowCosts,
    RowMetrics,
    ScoreHistogram,
    TrainingLabels,
)
from lineup.layouts import edit_kinds
from lineup.storage import rankings

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DECIMALS = 6
QUERY_COLUMNS = (
    "query_id",
    "query",
    "label",
    "relevant",
    "first_hit",
    "top_answer",
    "top_label",
    "top_score",
    "wrong_score",
)
_PATHS_SHOWN = 5


@dataclass(frozen=True)
class Scores:
    """The metrics of each query.

    Attributes:
        values: {metric: float [Q]}, rounded; NaN for queries that are not scored.
        scored: bool [Q], whether the query counts: a relevant image is known, or people judged answers to it
            and there may be one among the others.
        num_relevant: int [Q], R of each query, as far as known.
        first_hit: int [Q], rank of the first relevant image, 0 if the ranking holds none.
        first_wrong: int [Q], rank of the first image that is not relevant, 0 if the ranking holds none.
        unknown: what follows from unknown relevance; None where that of every pair is known.
    """

    values: Mapping[str, FloatArray]
    scored: BoolArray
    num_relevant: IntArray
    first_hit: IntArray
    first_wrong: IntArray
    unknown: UnknownAnswers | None = None

    def most(self) -> dict[str, FloatArray]:
        """The greatest values of the metrics whose `values` are the least: {metric: float [Q]}.

        `ndcg_k` is not among them: its values are those of unknown answers as wrong ones, and can be lower.
        """
        if self.unknown is None:
            return {}
        ranges = self.unknown.bounds.items()
        return {name: ends.most for name, ends in ranges if not name.startswith("ndcg")}


@dataclass(frozen=True)
class UnknownAnswers:
    """What follows where the relevance of some answers is unknown.

    Attributes:
        bounds: of each metric that is not exact: float [Q], rounded; NaN for queries that are not scored.
        judged_at: {k: float [Q]}, the share of the first k answers whose relevance is known; empty where that
            of every pair is.
        depth_needed: how deep rankings would have to be, as junk leaves too few of their images; None where
            it leaves enough.
    """

    bounds: Mapping[str, Bounds]
    judged_at: Mapping[int, FloatArray]
    depth_needed: int | None


def score(positions: IntArray, relevance: Relevance, cutoffs: Sequence[int]) -> Scores:
    """Scores rankings.

    Args:
        positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end; without the images that
            `relevance` excludes.
        relevance: of the same queries and gallery.
        cutoffs: the k of metrics that have one.
    """
    relevant, num_relevant = relevance.is_relevant(positions), relevance.num_relevant()
    values = metrics.per_query(relevant, num_relevant, cutoffs)
    wrong, scored, unknown = (positions >= 0) & ~relevant, num_relevant > 0, None
    if isinstance(relevance, JudgedRelevance):
        scored |= relevance.is_judged() & (relevance.num_unknown() > 0)
        wrong &= relevance.is_known_at(positions)
        cut = _cut_short(relevance, positions, scored, cutoffs)
        values = {
            name: _nan_unless(scored, _replaced(np.nan_to_num(value), cut.queries, cut.bounds[name].least))
            for name, value in values.items()
        }
        unknown = _unknown_answers(values, cut, relevance, positions, scored, cutoffs)
    return Scores(
        {name: np.round(value, DECIMALS) for name, value in values.items()},
        scored,
        num_relevant,
        metrics.first_hit(relevant),
        metrics.first_hit(wrong),
        unknown,
    )


class _CutShort(NamedTuple):
    """Scored queries of whose answers all is known but the order behind the ranking's end.

    Attributes:
        queries: int [C], their positions.
        bounds: {metric: float [C] each}, of every metric.
        depth_needed: as in `UnknownAnswers`, of all queries.
    """

    queries: IntArray
    bounds: Mapping[str, Bounds]
    depth_needed: int | None


def _cut_short(
    relevance: JudgedRelevance, positions: IntArray, scored: BoolArray, cutoffs: Sequence[int]
) -> _CutShort:
    """What follows where junk leaves less than the first k images, or less than R where R is known."""
    is_counted, lengths = relevance.num_unknown() == 0, (positions >= 0).sum(axis=1)
    num_relevant = relevance.num_relevant()
    needed = np.where(is_counted, np.maximum(num_relevant, max(cutoffs)), max(cutoffs))
    is_short = scored & relevance.is_cut_short(positions) & (lengths < needed)
    depths = (needed + relevance.num_junk())[is_short]
    queries = np.flatnonzero(is_short & is_counted)
    by_metric = bounds.per_query_cut_short(
        relevance.is_relevant(positions)[queries],
        lengths[queries],
        num_relevant[queries],
        relevance.num_behind(positions)[queries],
        cutoffs,
    )
    depth = min(int(depths.max()), len(relevance.gallery_ids)) if len(depths) else None
    return _CutShort(queries, by_metric, depth)


def _unknown_answers(
    values: Mapping[str, FloatArray],
    cut: _CutShort,
    relevance: JudgedRelevance,
    positions: IntArray,
    scored: BoolArray,
    cutoffs: Sequence[int],
) -> UnknownAnswers | None:
    """What follows where unknown answers of scored queries matter; None where none does.

    Args:
        values: {metric: float [Q]}, with unknown answers as wrong ones.
        positions, cutoffs: as `score` takes them.
        scored: bool [Q].
    """
    of_values = {name: Bounds(value, value) for name, value in values.items()}
    judged_at: dict[int, FloatArray] = {}
    if (scored & (relevance.num_unknown() > 0)).any():
        # Without the metrics that divide by R: nobody knows how many images are relevant.
        relevant, known = relevance.is_relevant(positions), relevance.is_known_at(positions)
        of_values = bounds.per_query(relevant, known, relevance.num_relevant(), cutoffs)
        has_image = (positions >= 0) | ~known
        judged_at = {k: bounds.judged_at_k(known, has_image, k) for k in sorted(set(cutoffs))}
    ranges = {}
    for name, ends in of_values.items():
        every = [_replaced(*pair) for pair in zip(ends, [cut.queries] * 2, cut.bounds[name], strict=True)]
        least, most = (_nan_unless(scored, np.round(end, DECIMALS)) for end in every)
        if not np.array_equal(least, most, equal_nan=True):
            ranges[name] = Bounds(least, most)
    if not ranges and not judged_at:
        return None
    return UnknownAnswers(ranges, judged_at, cut.depth_needed)


def _replaced(values: FloatArray, at: IntArray, by: FloatArray) -> FloatArray:
    """A copy of the values [Q], with `by` [C] at the positions `at` [C]."""
    copy = values.astype(np.float64)
    copy[at] = by
    return copy


def _nan_unless(scored: BoolArray, values: FloatArray) -> FloatArray:
    return np.where(scored, values, np.nan).astype(np.float64)


def averages(scores: Scores, relevance: Relevance, samples: int, seed: int) -> dict[str, Average]:
    """Every metric averaged over the scored queries; empty if there are none."""
    scored = scores.scored
    if not scored.any():
        return {}
    labels = relevance.query_labels[scored]
    values = np.column_stack([value[scored] for value in scores.values.values()])
    low, high = significance.bootstrap_interval(values, significance.cluster_codes(labels), samples, seed)
    over_labels = _mean_of_label_means(values[labels >= 0], labels[labels >= 0])
    columns = zip(scores.values, values.mean(axis=0), low, high, over_labels, strict=True)
    return {
        name: Average(
            mean=round(float(mean), DECIMALS),
            low=_rounded(lower),
            high=_rounded(upper),
            mean_over_labels=_rounded(of_labels),
        )
        for name, mean, lower, upper, of_labels in columns
    }


def partial(scores: Scores, relevance: Relevance, samples: int, seed: int) -> Partial | None:
    """What a row's figures leave open; None where the relevance of every pair is known.

    The interval of a range is from the lower end of its least value's to the upper end of its greatest one's.
    """
    if scores.unknown is None:
        return None
    clusters = significance.cluster_codes(relevance.query_labels[scores.scored])
    ranges = {}
    for name, ends in scores.unknown.bounds.items():
        values = np.column_stack([end[scores.scored] for end in ends])
        low, high = significance.bootstrap_interval(values, clusters, samples, seed)
        least, most = (round(float(mean), DECIMALS) for mean in values.mean(axis=0))
        ranges[name] = Range(least=least, most=most, low=_rounded(low[0]), high=_rounded(high[1]))
    judged_at = {
        str(k): round(float(shares[scores.scored].mean()), DECIMALS)
        for k, shares in scores.unknown.judged_at.items()
    }
    return Partial(ranges=ranges, judged_at=judged_at, depth_needed=scores.unknown.depth_needed)


def people_judged(
    judgements: Sequence[Judgement], relevance: Relevance, scores: Scores
) -> PeopleJudged | None:
    """Who judged which pairs of a collection, and whether they agree; None where nobody judged any pair.

    Args:
        judgements: of data/judgements.csv.
        relevance: what `with_people` returned for them.
        scores: of any row.
    """
    everywhere = resolved(judgements)
    if not everywhere:
        return None
    pairs = relevance.people_pairs() if isinstance(relevance, JudgedRelevance) else set()
    here = [each for each in judgements if (each.query, each.gallery) in pairs]
    return PeopleJudged(
        pairs=len(pairs),
        queries=len({query for query, _ in pairs}),
        left_out=len(everywhere) - len(pairs),
        without_right=int(np.sum(scores.scored & (scores.num_relevant == 0))),
        judges=len({each.judge for each in latest(here).values() if each.relevance is not None}),
        disagreements=len(agreement.disagreements(here)),
        agreements=tuple(JudgesAgreement(**each._asdict()) for each in agreement.agreements(here)),
    )


def identify(
    scores: Scores,
    similarities: npt.NDArray[np.float32],
    relevance: Relevance,
    fpir: Sequence[float],
    samples: int,
    seed: int,
) -> Identification | None:
    """How well the scores of first answers tell queries with a match from others.

    Args:
        similarities: float32 [Q, K], the rankings' scores, NaN behind a ranking's end.
        fpir: the rates for which a threshold is chosen.
    Returns:
        None if no query has a relevant image, or the relevance of some pairs is unknown: nobody can tell then
        which queries have no match.
    """
    if not (scores.num_relevant > 0).any() or (scores.unknown and scores.unknown.judged_at):
        return None
    given = identification.searches(
        similarities[:, 0].astype(np.float64),
        scores.first_hit,
        _at_rank(similarities, scores.first_wrong),
        scores.num_relevant,
        relevance.is_known(),
        significance.cluster_codes(relevance.query_labels),
    )
    supported = [target for target in fpir if identification.is_supported(given, target)]
    micro, recall = identification.ranked_figures(given, samples, seed)
    points = identification.operating_points(given, supported, seed)
    targets = identification.curve_targets(given)
    bounds, right, non_mated = identification.histograms(given)
    return Identification(
        mated=int(given.mated.sum()),
        non_mated=int((~given.mated).sum()),
        stand_ins=given.stand_ins,
        micro_average_precision=_rate(micro),
        recall_at_precision_90=_rate(recall),
        operating_points=tuple(
            OperatingPoint(
                target=point.target,
                threshold=_rounded_down(point.threshold),
                fpir=_rate(point.fpir),
                fnir=_rate(point.fnir),
            )
            for point in points
        ),
        unsupported=tuple(target for target in fpir if target not in supported),
        curve=tuple(
            (round(float(target), DECIMALS), round(float(fnir), DECIMALS))
            for target, fnir in zip(targets, identification.error_curve(given, targets), strict=True)
        ),
        histogram=ScoreHistogram(
            bounds=tuple(round(float(bound), DECIMALS) for bound in bounds),
            right=tuple(map(int, right)),
            non_mated=tuple(map(int, non_mated)),
        ),
    )


def _at_rank(similarities: npt.NDArray[np.float32], ranks: IntArray) -> FloatArray:
    """The score at a rank of each query, NaN where the rank is 0: float64 [Q]."""
    scores = similarities[np.arange(len(ranks)), np.maximum(ranks - 1, 0)].astype(np.float64)
    return np.where(ranks > 0, scores, np.nan)


def _rate(interval: identification.Interval) -> Rate:
    return Rate(
        value=round(interval.value, DECIMALS), low=_rounded(interval.low), high=_rounded(interval.high)
    )


def _rounded_down(threshold: float) -> float | None:
    """So that the score that it was chosen at still reaches it."""
    unit = 10**DECIMALS
    return float(np.floor(threshold * unit) / unit) if np.isfinite(threshold) else None


def _mean_of_label_means(values: FloatArray, labels: IntArray) -> FloatArray:
    """The mean over labels of their queries' means, [N, M] -> [M]; NaN without queries."""
    if len(labels) == 0:
        return np.full(values.shape[1], np.nan)
    clusters = significance.cluster_codes(labels)
    sums = np.zeros((clusters.max() + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return (sums / np.bincount(clusters)[:, None]).mean(axis=0)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), DECIMALS)


def summarise(
    row: str,
    scores: Scores,
    relevance: Relevance,
    quality: Mapping[str, Average],
    identified: Identification | None,
    costs: RowCosts,
    *,
    depth: int,
    judged: Judgements | None,
    enlarged: Enlarged | None,
    edits: Mapping[str, EditedCopies],
    people: PeopleJudged | None = None,
    partial: Partial | None = None,
    training: TrainingLabels | None = None,
) -> RowMetrics:
    """The row's metrics: how many queries were scored, why others were not, how well, and at what cost.

    Args:
        quality: what `averages` returned.
        identified: what `identify` returned.
        depth: of the rankings.
        judged: the lines of qrels.csv.
        enlarged: what `count_enlarged` returned.
        edits: what `edited_copies` returned.
        people: who judged which pairs, None where nobody did.
        partial: what the function of that name returned.
        training: the labels that the row was trained with, None if it wasn't.
    """
    scored = scores.scored
    unlabelled = relevance.query_labels < 0 if relevance.source != "qrels" else np.zeros_like(scored)
    if isinstance(relevance, JudgedRelevance):
        unlabelled &= ~relevance.is_judged()
    why_none = "no labels" if relevance.source == "none" else "no right answer in the gallery"
    labels = relevance.query_labels[scored]
    return RowMetrics(
        row=row,
        relevance=relevance.source,
        unscored=None if scored.any() else why_none,
        queries=len(scored),
        scored=int(scored.sum()),
        without_label=int(np.sum(unlabelled)),
        without_answer=int(np.sum(~scored & ~unlabelled)),
        labels=len(np.unique(labels[labels >= 0])),
        clusters=len(np.unique(significance.cluster_codes(labels))),
        gallery=len(relevance.gallery_ids),
        exclude=relevance.exclude,
        own_picture=OwnPicture(same_bytes=len(relevance.same_bytes()), other_bytes=len(relevance.copies)),
        depth=depth,
        judgements=judged,
        enlarged=enlarged,
        quality=dict(quality),
        identification=identified,
        costs=costs,
        edits=dict(edits),
        people=people,
        partial=partial,
        training=training,
    )


def count_enlarged(manifest: pa.Table, resize_px: int) -> Enlarged:
    """How many images are smaller than a row resizes them to, so that its transform enlarges them."""
    shorter_side = np.minimum(manifest.column("width").to_numpy(), manifest.column("height").to_numpy())
    return Enlarged(images=int(np.sum(shorter_side < resize_px)), of=len(shorter_side), resize_px=resize_px)


def edited_copies(scores: Scores, manifest: pa.Table) -> dict[str, EditedCopies]:
    """The scored queries of each kind of edit; none where queries are other photos.

    Args:
        manifest: schemas.MANIFEST, at least `split` and `paths`.
    """
    query_paths = manifest.filter(pc.field("split") == "query").column("paths").to_pylist()
    kinds = [next(filter(None, map(edit_kinds.kind_of, paths)), None) for paths in query_paths]
    copies = {}
    for kind in edit_kinds.NAMES:
        of_kind = np.array([other == kind for other in kinds], bool) & scores.scored
        if of_kind.any():
            top_1 = round(float(np.mean(scores.first_hit[of_kind] == 1)), DECIMALS)
            copies[kind] = EditedCopies(queries=int(of_kind.sum()), top_1=top_1)
    return copies


def query_columns(scores: Scores) -> list[str]:
    """The header of metrics/queries/<row>.csv; `METRIC_most` is the greatest value of an uncertain metric."""
    return [*QUERY_COLUMNS, *scores.values, *(f"{name}{MOST_SUFFIX}" for name in scores.most())]


def query_lines(
    scores: Scores,
    ranking: rankings.Ranking,
    positions: IntArray,
    relevance: Relevance,
    manifest: pa.Table,
) -> Iterator[Sequence[object]]:
    """A line per query: the cells of `query_columns`; a metric that is NaN is empty."""
    query_paths, query_labels = _paths_and_labels(manifest, "query")
    gallery_paths, gallery_labels = _paths_and_labels(manifest, "gallery")
    values = np.column_stack([*scores.values.values(), *scores.most().values()])
    wrong = _at_rank(ranking.scores, scores.first_wrong)
    for q, query_id in enumerate(relevance.query_ids.tolist()):
        top = int(positions[q, 0]) if positions.shape[1] else -1
        answer = (
            (gallery_paths[top], gallery_labels[top], _number(ranking.scores[q, 0]))
            if top >= 0
            else ("", "", "")
        )
        counts = (int(scores.num_relevant[q]), int(scores.first_hit[q]) or "")
        numbers = map(_number, (wrong[q], *values[q]))
        yield query_id, query_paths[q], query_labels[q], *counts, *answer, *numbers


def _paths_and_labels(manifest: pa.Table, split: str) -> tuple[list[str], list[str]]:
    """Of each image of a split, in the order of ids: its paths in one text, and its label, "" if unknown."""
    rows = manifest.filter(pc.field("split") == split)
    labels = [label or "" for label in rows.column("label").to_pylist()]
    return [_joined(image_paths) for image_paths in rows.column("paths").to_pylist()], labels


def _joined(image_paths: list[str]) -> str:
    """The paths of an image in one text; only the first ones where there are many, as of a placeholder."""
    if len(image_paths) > _PATHS_SHOWN:
        image_paths = [*image_paths[:_PATHS_SHOWN], f"and {len(image_paths) - _PATHS_SHOWN:,} more"]
    return " | ".join(image_paths)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
