"""What `dvc metrics` and `dvc plots` show: the rows' figures, their curves, and the pairs' significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lineup.comparison.comparison import Pair, is_exact
from lineup.costs.running_costs import RowSpeed
from lineup.evaluation.metrics import MAIN_METRIC, top_k_name
from lineup.evaluation.quality_records import Average
from lineup.evaluation.query_tables import Queries, is_scored
from lineup.evaluation.row_metrics import MOST_SUFFIX, RowMetrics

CURVE_DEPTH = 100
QUALITY_DECIMALS = 4
COST_DECIMALS = {"images_per_second": 1, "index_mb": 3, "train_minutes": 2}
QUERY_DECIMALS = 2
# Speeds and times, which differ between runs of the same.
MEASURED = ("images_per_second", "p50_ms", "p95_ms", "train_minutes")
# With the main metric in two means, five costs and the recall of an index, a row has a dozen figures at most.
MOST_TOP_K = 4

Rows = Mapping[str, RowMetrics]


class CsvTable(NamedTuple):
    """A table as it is written."""

    header: Sequence[str]
    lines: Sequence[Sequence[object]]


def metrics(
    rows: Rows, metric_names: Sequence[str], speeds: Mapping[str, RowSpeed]
) -> dict[str, dict[str, float]]:
    """What `dvc metrics` shows: {row: {figure: value}}, the dozen that people compare between commits.

    The main metric is there as a mean over labels, too; a cost that was not measured is left out. All other
    figures are in metrics/rows. A row's figures are its own, so that a change of another row changes none of
    them. Where the relevance of answers is unknown, METRIC_most is the greatest value
    of a mean whose least is METRIC, and judged_K the share of known answers among the first K.

    Args:
        metric_names: those of `comparison.shown_metrics`; of top_k, the MOST_TOP_K smallest k are shown.
        speeds: of each row by itself; p50_ms and p95_ms are there of the rows in it.
    """
    values = {}
    for name, row in rows.items():
        shown = metric_names[: 1 + MOST_TOP_K]
        quality = {metric: round(row.quality[metric].mean, QUALITY_DECIMALS) for metric in shown}
        over_labels = row.quality[metric_names[0]].mean_over_labels if quality else None
        if over_labels is not None:
            quality[f"{metric_names[0]}_mean_over_labels"] = round(over_labels, QUALITY_DECIMALS)
        for metric in shown:
            if own := row.range_of(metric):
                quality[f"{metric}{MOST_SUFFIX}"] = round(own.most, QUALITY_DECIMALS)
        if quality and row.partial and row.partial.judged_at:
            deepest = max(row.partial.judged_at, key=int)
            quality[f"judged_{deepest}"] = round(row.partial.judged_at[deepest], QUALITY_DECIMALS)
        measured = {cost: getattr(row.costs, cost) for cost in COST_DECIMALS}
        costs = {
            cost: round(value, COST_DECIMALS[cost]) for cost, value in measured.items() if value is not None
        }
        if name in speeds:
            p50, p95 = speeds[name].p50.total, speeds[name].p95.total
            costs |= {"p50_ms": round(p50, QUERY_DECIMALS), "p95_ms": round(p95, QUERY_DECIMALS)}
        recall = row.costs.search.ann_recall if row.costs.search else {}
        deepest = sorted(recall, key=int)[-1:]
        values[name] = quality | costs | {f"ann_recall_{k}": recall[k] for k in deepest}
    return values


def significance_table(compared: Sequence[Pair]) -> CsvTable:
    """A line per pair and metric; an interval that does not exist is empty."""
    lines = [
        [pair.metric, pair.a, pair.b, *(f"{value:.6f}" if np.isfinite(value) else "" for value in pair[3:])]
        for pair in compared
    ]
    return CsvTable(("metric", "model_a", "model_b", "difference", "low", "high", "p", "p_holm"), lines)


def top_k_curves(rows: Rows, queries: Queries) -> CsvTable:
    """A line per row and k, up to the rankings' depth; none where nothing was scored.

    Where the relevance of answers is unknown, curves end at the largest k whose top_k is exact for all rows.
    """
    lines = []
    for name, table in queries.items():
        # A rank that is NaN, as no relevant image is in the ranking, is not <= k.
        first_hit = table.column("first_hit").to_numpy()[is_scored(table)]
        depth = min(rows[name].depth, CURVE_DEPTH, _exact_depth(rows)) if len(first_hit) else 0
        lines += [[name, k, f"{np.mean(first_hit <= k):.6f}"] for k in range(1, depth + 1)]
    return CsvTable(("model", "k", "top_k"), lines)


def _exact_depth(rows: Rows) -> int:
    """The largest k whose top_k is exact for every row."""
    if not any(row.partial for row in rows.values()):
        return CURVE_DEPTH
    names = next(iter(rows.values())).quality
    cutoffs = [int(name.removeprefix("top_")) for name in names if name.startswith("top_")]
    return max((k for k in cutoffs if is_exact(rows, top_k_name(k))), default=0)


def identification_curves(rows: Rows) -> CsvTable:
    """A line per row and FPIR: the share of queries with a match that are missed at its threshold."""
    lines = []
    for name, row in rows.items():
        points = row.identification.curve if row.identification else ()
        lines += [[name, f"{fpir:.6g}", f"{fnir:.6f}"] for fpir, fnir in points]
    return CsvTable(("model", "fpir", "fnir"), lines)


def with_interval(average: Average) -> list[str]:
    """A mean, and the ends of its interval; an end that it lacks is the mean."""
    ends = (average.mean if end is None else end for end in (average.low, average.high))
    return [f"{value:.4f}" for value in (average.mean, *ends)]


def accuracy_cost(rows: Rows) -> CsvTable:
    """A line per row with a speed and an exact quality: the ends that an interval lacks are its mean."""
    lines = []
    for name, row in rows.items():
        speed, quality = row.costs.images_per_second, row.quality.get(MAIN_METRIC)
        if speed is not None and quality and row.is_exact(MAIN_METRIC):
            lines.append([name, f"{speed:.1f}", *with_interval(quality)])
    return CsvTable(("model", "images_per_second", MAIN_METRIC, "low", "high"), lines)


def training_curves(rows: Rows) -> CsvTable:
    """A line per fine-tuned row and epoch. Epoch 0 is the encoder before training, which has no loss."""
    columns = ("epoch", "map_at_r", "loss", "learning_rate")
    lines = []
    for name, row in rows.items():
        for epoch in row.costs.training_curve:
            values = [getattr(epoch, column) for column in columns]
            lines.append([name, *("" if value is None else f"{value:.6g}" for value in values)])
    return CsvTable(("model", *columns), lines)
