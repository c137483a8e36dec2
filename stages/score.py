"""score@row: how good a row's rankings are, per query and on average, and what they cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, paths
from lineup.evaluation import metrics, relevance, row_costs, significance
from lineup.evaluation.relevance import Relevance
from lineup.storage import csv_files, files, parquet, rankings

log = logging.getLogger(__name__)

DIGITS = 6  # of every value that is written
QUERY = ("query_id", "query", "label", "relevant", "first_hit", "top_answer", "top_label", "top_score")
_PATHS_SHOWN = 5  # of an image that lies under several


@dataclass(frozen=True)
class Scores:
    """values: {metric: float64 [Q]}, rounded, NaN for queries left out; total, first_hit: int [Q]."""

    values: dict[str, npt.NDArray[np.float64]]
    total: npt.NDArray[np.int64]
    first_hit: npt.NDArray[np.int64]


def score(positions: npt.NDArray[np.int64], answers: Relevance, cutoffs: Sequence[int]) -> Scores:
    """positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end, without what `answers`
    excludes.
    """
    relevant, total = answers.of(positions), answers.total()
    values = metrics.per_query(relevant, total, cutoffs)
    return Scores(
        {name: np.round(value, DIGITS) for name, value in values.items()}, total, metrics.first_hit(relevant)
    )


def average(
    scores: Scores, answers: Relevance, samples: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """{metric: {mean, low, high, mean_over_labels}}: mean over queries with its 95% interval, and mean over
    labels of their means.

    Empty if no query could be scored; None where there are no labels (mean_over_labels) or only one (low,
    high).
    """
    kept = scores.total > 0
    if not kept.any():
        return {}
    labels = answers.query_labels[kept]
    values = np.column_stack([value[kept] for value in scores.values.values()])
    low, high = significance.bootstrap_interval(values, significance.clusters(labels), samples, seed)
    mean, mean_over_labels = (
        values.mean(axis=0),
        _mean_of_label_means(values[labels >= 0], labels[labels >= 0]),
    )
    columns = [[_rounded(v) for v in column] for column in (mean, low, high, mean_over_labels)]
    return {
        name: dict(zip(("mean", "low", "high", "mean_over_labels"), four, strict=True))
        for name, *four in zip(scores.values, *columns, strict=True)
    }


def _mean_of_label_means(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    if len(labels) == 0:
        return np.full(values.shape[1], np.nan)
    groups = significance.clusters(labels)
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return (sums / np.bincount(groups)[:, None]).mean(axis=0)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), DIGITS)


def summary(scores: Scores, answers: Relevance, depth: int) -> dict[str, Any]:
    """What was scored, in counts, and why nothing was, if so."""
    kept = scores.total > 0
    unknown = answers.source != "qrels" and answers.query_labels < 0
    reason = (
        None if kept.any() else "no labels" if answers.source == "none" else "no right answer in the gallery"
    )
    return {
        "relevance": answers.source,
        "unscored": reason,
        "queries": len(kept),
        "scored": int(kept.sum()),
        "without_label": int(np.sum(unknown)),
        "without_answer": int(np.sum(~kept & ~unknown)),
        "labels": len(np.unique(answers.query_labels[kept & (answers.query_labels >= 0)])),
        "clusters": len(np.unique(significance.clusters(answers.query_labels[kept]))),
        "gallery": len(answers.gallery_ids),
        "exclude": answers.exclude,
        "own_picture": {
            "same_bytes": len(answers.same_bytes()),
            "other_bytes": len(answers.copies),
        },  # pairs of query and gallery image
        "depth": depth,
    }


def count_enlarged(manifest: pa.Table, resize_px: int) -> dict[str, int]:
    """How many of the images are smaller than a row resizes them to, so that its transform enlarges them."""
    shorter_side = np.minimum(manifest.column("width").to_numpy(), manifest.column("height").to_numpy())
    return {"images": int(np.sum(shorter_side < resize_px)), "of": len(shorter_side), "resize_px": resize_px}


def queries(
    scores: Scores,
    ranking: rankings.Ranking,
    positions: npt.NDArray[np.int64],
    answers: Relevance,
    manifest: pa.Table,
) -> Iterator[Sequence[object]]:
    """One line per query, as QUERY names its cells, and every metric (empty where left out)."""
    query_paths, query_labels = _described(manifest, "query")
    gallery_paths, gallery_labels = _described(manifest, "gallery")
    values = np.column_stack(list(scores.values.values()))
    for q, query_id in enumerate(answers.query_ids.tolist()):
        top = int(positions[q, 0]) if positions.shape[1] else -1
        answer = (
            (gallery_paths[top], gallery_labels[top], _number(ranking.scores[q, 0]))
            if top >= 0
            else ("", "", "")
        )
        counts = (int(scores.total[q]), int(scores.first_hit[q]) or "")
        yield query_id, query_paths[q], query_labels[q], *counts, *answer, *map(_number, values[q])


def _described(manifest: pa.Table, split: str) -> tuple[list[str], list[str]]:
    """Paths (a few joined by " | ") and labels ("" if unknown) of a split, in the order of their ids."""
    rows = manifest.filter(pc.field("split") == split)
    return [_joined(names) for names in rows.column("paths").to_pylist()], [
        name or "" for name in rows.column("label").to_pylist()
    ]


def _joined(names: list[str]) -> str:
    """A placeholder picture may lie under thousands of paths."""
    return " | ".join(
        names
        if len(names) <= _PATHS_SHOWN
        else [*names[:_PATHS_SHOWN], f"and {len(names) - _PATHS_SHOWN:,} more"]
    )


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("score", argv, rows="all")
    manifest = parquet.read_table(
        paths.manifest("test"), columns=[*relevance.COLUMNS, "paths", "width", "height"]
    )
    qrels = parquet.read_table(paths.QRELS)
    answers = relevance.read(manifest, qrels, params.relevance.exclude)
    ranking = rankings.read_ranking(paths.ranking(row))
    positions = relevance.gallery_positions(ranking, answers, str(paths.ranking(row)))
    scores = score(positions, answers, params.score.cutoffs)
    told = summary(scores, answers, ranking.positions.shape[1]) | {"judgements": relevance.judgements(qrels)}
    quality = average(scores, answers, params.score.bootstrap_samples, params.seed)
    refinement = params.refinements.get(row)
    costs = (
        row_costs.of_refinement(row, refinement.first, refinement.second)
        if refinement
        else row_costs.of_model(row)
    )
    enlarged = count_enlarged(manifest, costs["resize_px"]) if costs.get("resize_px") else None
    files.write_json(
        paths.row_metrics(row), {"row": row, **told, "enlarged": enlarged, "quality": quality, "costs": costs}
    )
    lines = queries(scores, ranking, positions, answers, manifest)
    csv_files.write_csv(paths.row_queries(row), [*QUERY, *scores.values], lines)
    if told["unscored"]:
        log.warning("%s: nothing can be scored", told["unscored"])
    else:
        log.info(
            "map_at_r %.3f over %d of %d queries",
            quality["map_at_r"]["mean"],
            told["scored"],
            told["queries"],
        )


if __name__ == "__main__":
    cli.run(main)
