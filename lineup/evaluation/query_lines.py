"""The lines of metrics/queries/<row>.csv, one for each query: its metrics and its first answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup.evaluation.rounding import DECIMALS
from lineup.evaluation.row_metrics import MOST_SUFFIX
from lineup.evaluation.scoring import IntArray, Scores
from lineup.relevance.relevance import Relevance
from lineup.storage import rankings

_COLUMNS = (
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


def columns(scores: Scores) -> list[str]:
    """The header of metrics/queries/<row>.csv; `METRIC_most` is the greatest value of an uncertain metric."""
    return [*_COLUMNS, *scores.values, *(f"{name}{MOST_SUFFIX}" for name in scores.most())]


def lines(
    scores: Scores,
    ranking: rankings.Ranking,
    positions: IntArray,
    relevance: Relevance,
    manifest: pa.Table,
) -> Iterator[Sequence[object]]:
    """A line per query: the cells of `columns`; a metric that is NaN is empty."""
    query_paths, query_labels = _paths_and_labels(manifest, "query")
    gallery_paths, gallery_labels = _paths_and_labels(manifest, "gallery")
    values = np.column_stack([*scores.values.values(), *scores.most().values()])
    wrong = scores.wrong_score(ranking.scores)
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
