"""compare: the rows of params.yaml side by side, and which differences between them are more than chance.

It reads git-tracked files only, and of those exactly the ones of params.yaml's rows. `lineup show` prints the
result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import comparison, markdown, row_metrics, significance
from lineup.evaluation.comparison import Pair
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.row_metrics import RowMetrics
from lineup.storage import csv_files, files

log = logging.getLogger(__name__)

CURVE_DEPTH = 100
QUALITY_DECIMALS = 4
COST_DECIMALS = {
    "dim": 0,
    "parameters": 0,
    "gflops": 2,
    "images_per_second": 1,
    "query_ms": 4,
    "index_mb": 3,
    "peak_memory_mb": 1,
    "peak_gpu_memory_mb": 1,
    "train_minutes": 2,
}

# More pairs need smaller p values to survive Holm's correction, and more flips to see such values.
FEWEST_FLIPS = 10_000
FLIPS_PER_PAIR = 200

Rows = Mapping[str, RowMetrics]
Queries = Mapping[str, pa.Table]  # metrics/queries/<row>.csv by row, the same queries in the same order


class CsvTable(NamedTuple):
    header: Sequence[str]
    lines: Sequence[Sequence[object]]


def metrics(rows: Rows) -> dict[str, dict[str, float]]:
    """What `dvc metrics` shows: {row: {metric: value}}, means over queries and costs.

    The main metric is there as a mean over labels, too; a cost that was not measured is left out.
    """
    values = {}
    for name, row in rows.items():
        quality = {metric: round(average.mean, QUALITY_DECIMALS) for metric, average in row.quality.items()}
        over_labels = row.quality[MAIN_METRIC].mean_over_labels if quality else None
        if over_labels is not None:
            quality[f"{MAIN_METRIC}_mean_over_labels"] = round(over_labels, QUALITY_DECIMALS)
        measured = {cost: getattr(row.costs, cost) for cost in COST_DECIMALS}
        costs = {
            cost: round(value, COST_DECIMALS[cost] or None)
            for cost, value in measured.items()
            if value is not None
        }
        recall = row.costs.search.ann_recall if row.costs.search else {}
        values[name] = quality | costs | {f"ann_recall_{k}": share for k, share in recall.items()}
    return values


def pairs(queries: Queries, metric_names: Sequence[str], samples: int, seed: int) -> list[Pair]:
    """Every two rows under each metric: difference, its interval, and the p value of the paired test."""
    row_pairs = list(combinations(queries, 2))
    if not row_pairs or not metric_names:
        return []
    first = next(iter(queries.values()))
    scored = first.column("relevant").to_numpy() > 0
    clusters = significance.cluster_codes(_label_codes(first)[scored])
    flips = max(FEWEST_FLIPS, FLIPS_PER_PAIR * len(row_pairs))
    compared = []
    for metric in metric_names:
        values = {row: table.column(metric).to_numpy()[scored] for row, table in queries.items()}
        differences = np.column_stack([values[a] - values[b] for a, b in row_pairs])
        low, high = significance.bootstrap_interval(differences, clusters, samples, seed)
        p = significance.randomisation_test(differences, clusters, flips, seed)
        columns = (differences.mean(axis=0), low, high, p, significance.holm(p))
        for (a, b), *numbers in zip(row_pairs, *columns, strict=True):
            compared.append(Pair(metric, a, b, *map(float, numbers)))
    return compared


def _label_codes(queries: pa.Table) -> npt.NDArray[np.int64]:
    """A code for each query's label, -1 where it has none: int [Q]."""
    labels = queries.column("label").combine_chunks().dictionary_encode()
    known = np.array([label != "" for label in labels.dictionary.to_pylist()], bool)
    codes = labels.indices.to_numpy().astype(np.int64)
    return np.where(known[codes], codes, -1)


def significance_table(compared: Sequence[Pair]) -> CsvTable:
    """A line per pair and metric; an interval that does not exist is empty."""
    lines = [
        [pair.metric, pair.a, pair.b, *(f"{value:.6f}" if np.isfinite(value) else "" for value in pair[3:])]
        for pair in compared
    ]
    return CsvTable(("metric", "model_a", "model_b", "difference", "low", "high", "p", "p_holm"), lines)


def top_k_curves(rows: Rows, queries: Queries) -> CsvTable:
    """A line per row and k, up to the rankings' depth; none where nothing was scored."""
    lines = []
    for name, table in queries.items():
        # A rank that is NaN, as no relevant image is in the ranking, is not <= k.
        first_hit = table.column("first_hit").to_numpy()[table.column("relevant").to_numpy() > 0]
        depth = min(rows[name].depth, CURVE_DEPTH) if len(first_hit) else 0
        lines += [[name, k, f"{np.mean(first_hit <= k):.6f}"] for k in range(1, depth + 1)]
    return CsvTable(("model", "k", "top_k"), lines)


def accuracy_cost(rows: Rows) -> CsvTable:
    """A line per row that has a speed and a quality: the ends of an interval that it lacks are its mean."""
    lines = []
    for name, row in rows.items():
        speed, quality = row.costs.images_per_second, row.quality.get(MAIN_METRIC)
        if speed is not None and quality:
            low, high = (quality.mean if end is None else end for end in (quality.low, quality.high))
            lines.append([name, f"{speed:.1f}", *(f"{value:.4f}" for value in (quality.mean, low, high))])
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


def read_queries(row: str, metric_names: Sequence[str]) -> pa.Table:
    """The columns of metrics/queries/<row>.csv that are compared; an empty number is NaN.

    Raises:
        UserError: the file does not exist, or lacks one of the columns.
    """
    path = paths.row_queries(row)
    numbers = {name: pa.float64() for name in ("relevant", "first_hit", *metric_names)}
    try:
        table = csv_files.read_csv_columns(path, {"query_id": pa.string(), "label": pa.string()} | numbers)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; run `dvc repro`") from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: isn't what this version writes ({reason}); run `dvc repro -f -s score@{row}`"
        ) from None
    return table.set_column(3, "first_hit", table.column("first_hit").fill_null(np.nan))


def check_same_task(rows: Rows, queries: Queries) -> None:
    """UserError unless all rows were scored on the same queries and gallery: else they cannot be compared."""
    first = next(iter(rows))
    task_columns = ["query_id", "label", "relevant"]
    for name in rows:
        for key in ("gallery", "relevance", "exclude", "queries", "scored"):
            value, expected = getattr(rows[name], key), getattr(rows[first], key)
            if value != expected:
                raise UserError(
                    f"{paths.row_metrics(name)}: {key} is {value}, but {expected} for {first}; "
                    "run `dvc repro`"
                )
        if not queries[name].select(task_columns).equals(queries[first].select(task_columns)):
            raise UserError(
                f"{paths.row_queries(name)}: holds other queries than {paths.row_queries(first)}; "
                "run `dvc repro`"
            )


def main(argv: list[str] | None = None) -> None:
    cli.no_options("compare", argv)
    params = cli.start_stage("compare")
    rows = row_metrics.read_all((*params.models, *params.refinements))
    metric_names = comparison.shown_metrics(rows, params.score.cutoffs)
    queries = {row: read_queries(row, metric_names) for row in rows}
    check_same_task(rows, queries)
    compared_pairs = pairs(queries, metric_names, params.score.bootstrap_samples, params.seed)
    compared = comparison.compare(rows, metric_names, compared_pairs)
    files.write_json(paths.METRICS, metrics(rows))
    csv_files.write_csv(paths.SIGNIFICANCE, *significance_table(compared_pairs))
    csv_files.write_csv(paths.TOP_K_CURVES, *top_k_curves(rows, queries))
    csv_files.write_csv(paths.ACCURACY_COST, *accuracy_cost(rows))
    csv_files.write_csv(paths.TRAINING_CURVES, *training_curves(rows))
    files.write_text(paths.COMPARISON, markdown.page(compared))
    log.info("%d rows, see %s", len(rows), paths.COMPARISON)


if __name__ == "__main__":
    cli.run(main)
