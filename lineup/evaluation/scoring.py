"""How good a row's rankings are: the metrics of each query, their averages, and the table of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.evaluation import metrics, significance
from lineup.evaluation.relevance import Relevance
from lineup.evaluation.row_metrics import (
    Average,
    EditedCopies,
    Enlarged,
    Judgements,
    OwnPicture,
    RowCosts,
    RowMetrics,
)
from lineup.layouts import edit_kinds
from lineup.storage import rankings

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

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
)
_PATHS_SHOWN = 5


@dataclass(frozen=True)
class Scores:
    """The metrics of each query.

    Attributes:
        values: {metric: float [Q]}, rounded; NaN for queries without a relevant image.
        num_relevant: int [Q], R of each query.
        first_hit: int [Q], rank of the first relevant image, 0 if the ranking holds none.
    """

    values: Mapping[str, FloatArray]
    num_relevant: IntArray
    first_hit: IntArray


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
    rounded = {name: np.round(value, DECIMALS) for name, value in values.items()}
    return Scores(rounded, num_relevant, metrics.first_hit(relevant))


def averages(scores: Scores, relevance: Relevance, samples: int, seed: int) -> dict[str, Average]:
    """Every metric averaged over the queries that have a relevant image; empty if there are none."""
    scored = scores.num_relevant > 0
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
    costs: RowCosts,
    *,
    depth: int,
    judged: Judgements | None,
    enlarged: Enlarged | None,
    edits: Mapping[str, EditedCopies],
) -> RowMetrics:
    """The row's metrics: how many queries were scored, why others were not, how well, and at what cost.

    Args:
        quality: what `averages` returned.
        depth: of the rankings.
        judged: the lines of qrels.csv.
        enlarged: what `count_enlarged` returned.
        edits: what `edited_copies` returned.
    """
    scored = scores.num_relevant > 0
    unlabelled = relevance.query_labels < 0 if relevance.source != "qrels" else np.zeros_like(scored)
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
        costs=costs,
        edits=dict(edits),
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
        of_kind = np.array([other == kind for other in kinds], bool) & (scores.num_relevant > 0)
        if of_kind.any():
            top_1 = round(float(np.mean(scores.first_hit[of_kind] == 1)), DECIMALS)
            copies[kind] = EditedCopies(queries=int(of_kind.sum()), top_1=top_1)
    return copies


def query_lines(
    scores: Scores,
    ranking: rankings.Ranking,
    positions: IntArray,
    relevance: Relevance,
    manifest: pa.Table,
) -> Iterator[Sequence[object]]:
    """A line per query: the cells of QUERY_COLUMNS, and every metric, empty where it is NaN."""
    query_paths, query_labels = _paths_and_labels(manifest, "query")
    gallery_paths, gallery_labels = _paths_and_labels(manifest, "gallery")
    values = np.column_stack(list(scores.values.values()))
    for q, query_id in enumerate(relevance.query_ids.tolist()):
        top = int(positions[q, 0]) if positions.shape[1] else -1
        answer = (
            (gallery_paths[top], gallery_labels[top], _number(ranking.scores[q, 0]))
            if top >= 0
            else ("", "", "")
        )
        counts = (int(scores.num_relevant[q]), int(scores.first_hit[q]) or "")
        yield query_id, query_paths[q], query_labels[q], *counts, *answer, *map(_number, values[q])


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
