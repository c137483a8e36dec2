"""compare: the rows of params.yaml side by side, and which of them can't be told apart.

Reads git-tracked files only, and of those exactly the ones of params.yaml's rows. `lineup show` prints the
result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import comparison, significance
from lineup.evaluation.comparison import Pair
from lineup.storage import csv_files, files

log = logging.getLogger(__name__)

CURVE_DEPTH = 100
COSTS = {  # and their decimals
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

Rows = Mapping[str, dict[str, Any]]  # metrics/rows/<row>.json by row
Csv = tuple[Sequence[str], Sequence[Sequence[object]]]  # header and lines
Queries = Mapping[str, pa.Table]  # metrics/queries/<row>.csv by row, the same queries in the same order


def metrics(rows: Rows) -> dict[str, dict[str, float]]:
    """{row: {metric: value}} for `dvc metrics`: means over queries, map_at_r also over labels, and costs."""
    told = {}
    for name, row in rows.items():
        quality = {metric: round(value["mean"], 4) for metric, value in row["quality"].items()}
        if quality and row["quality"]["map_at_r"]["mean_over_labels"] is not None:
            quality["map_at_r_mean_over_labels"] = round(row["quality"]["map_at_r"]["mean_over_labels"], 4)
        costs = {
            cost: round(row["costs"][cost], digits or None)
            for cost, digits in COSTS.items()
            if row["costs"][cost] is not None
        }
        found = (
            row["costs"].get("search", {}).get("ann_recall", {})
        )  # by an approximate index, of what exact search finds
        told[name] = quality | costs | {f"ann_recall_{k}": share for k, share in found.items()}
    return told


def pairs(queries: Queries, names: Sequence[str], samples: int, seed: int) -> list[Pair]:
    """Every two rows under each of the metrics `names`: difference, interval, p, and p adjusted for the
    number of pairs.
    """
    found = list(combinations(queries, 2))
    if not found or not names:
        return []
    first = next(iter(queries.values()))
    kept = first.column("relevant").to_numpy() > 0
    labels = first.column("label").combine_chunks().dictionary_encode()
    known = np.array([label != "" for label in labels.dictionary.to_pylist()], bool)
    codes = labels.indices.to_numpy().astype(np.int64)
    groups = significance.clusters(np.where(known[codes], codes, -1)[kept])
    result = []
    for name in names:
        values = {row: table.column(name).to_numpy()[kept] for row, table in queries.items()}
        differences = np.column_stack([values[a] - values[b] for a, b in found])
        low, high = significance.bootstrap_interval(differences, groups, samples, seed)
        # More pairs need smaller p values to survive the correction, and those need more draws to be seen.
        p = significance.randomisation_test(differences, groups, max(10_000, 200 * len(found)), seed)
        columns = zip(found, differences.mean(axis=0), low, high, p, significance.holm(p), strict=True)
        result += [Pair(name, a, b, *map(float, numbers)) for (a, b), *numbers in columns]
    return result


def significance_lines(found: Sequence[Pair]) -> Csv:
    lines = [[p.metric, p.a, p.b, *(f"{v:.6f}" if np.isfinite(v) else "" for v in p[3:])] for p in found]
    return ("metric", "model_a", "model_b", "difference", "low", "high", "p", "p_holm"), lines


def top_k_curves(rows: Rows, queries: Queries) -> Csv:
    """Long: one line per row and k, up to the rankings' depth."""
    lines = []
    for name, table in queries.items():
        first_hit = table.column("first_hit").to_numpy()[table.column("relevant").to_numpy() > 0]
        for k in range(1, min(rows[name]["depth"], CURVE_DEPTH) + 1) if len(first_hit) else ():
            lines.append([name, k, f"{np.mean(first_hit <= k):.6f}"])  # NaN, never found, is not <= k
    return ("model", "k", "top_k"), lines


def accuracy_cost(rows: Rows) -> Csv:
    """One line per row that has both: speed, and map_at_r with its interval (the value itself where there is
    none).
    """
    lines = []
    for name, row in rows.items():
        speed, quality = row["costs"]["images_per_second"], row["quality"].get("map_at_r")
        if speed is not None and quality:
            ends = (
                quality["mean"] if quality[end] is None else quality[end] for end in ("mean", "low", "high")
            )
            lines.append([name, f"{speed:.1f}", *(f"{end:.4f}" for end in ends)])
    return ("model", "images_per_second", "map_at_r", "low", "high"), lines


def training_curves(rows: Rows) -> Csv:
    """Long: one line per fine-tuned row and epoch.

    Epoch 0 is the encoder before training, which has no loss.
    """
    columns = ("epoch", "map_at_r", "loss", "learning_rate")
    lines = []
    for name, row in rows.items():
        lines += [
            [name, *(f"{entry[c]:.6g}" if entry.get(c) is not None else "" for c in columns)]
            for entry in row["costs"].get("training_curve", [])
        ]
    return ("model", *columns), lines


def read_queries(row: str, names: Sequence[str]) -> pa.Table:
    """The columns of metrics/queries/<row>.csv that are compared; an empty number is NaN."""
    path = paths.row_queries(row)
    numbers = {name: pa.float64() for name in ("relevant", "first_hit", *names)}
    try:
        table = csv_files.read_csv_columns(path, {"query_id": pa.string(), "label": pa.string()} | numbers)
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`") from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: isn't what this version writes ({reason}); run `dvc repro -f -s score@{row}`"
        ) from None
    return table.set_column(3, "first_hit", table.column("first_hit").fill_null(np.nan))


def check_same_task(rows: Rows, queries: Queries) -> None:
    """UserError unless all rows were scored on the same queries and gallery: else their figures can't be
    compared.
    """
    first = next(iter(rows))
    for name in rows:
        for key in ("gallery", "relevance", "exclude", "queries", "scored"):
            if rows[name][key] != rows[first][key]:
                raise UserError(
                    f"{paths.row_metrics(name)}: {key} is {rows[name][key]}, but {rows[first][key]} for {first}; run `dvc repro`"
                )
        if (
            not queries[name]
            .select(["query_id", "label", "relevant"])
            .equals(queries[first].select(["query_id", "label", "relevant"]))
        ):
            raise UserError(
                f"{paths.row_queries(name)}: holds other queries than {paths.row_queries(first)}; run `dvc repro`"
            )


def main(argv: list[str] | None = None) -> None:
    cli.no_options("compare", argv)
    params = cli.start_stage("compare")
    rows = comparison.read_rows((*params.models, *params.refinements))
    scored = all(row["quality"] for row in rows.values())
    names = ["map_at_r", *(f"top_{k}" for k in sorted(set(params.score.cutoffs)))] if scored else []
    queries = {row: read_queries(row, names) for row in rows}
    check_same_task(rows, queries)
    found = pairs(queries, names, params.score.bootstrap_samples, params.seed)
    files.write_json(paths.METRICS, metrics(rows))
    csv_files.write_csv(paths.SIGNIFICANCE, *significance_lines(found))
    csv_files.write_csv(paths.TOP_K_CURVES, *top_k_curves(rows, queries))
    csv_files.write_csv(paths.ACCURACY_COST, *accuracy_cost(rows))
    csv_files.write_csv(paths.TRAINING_CURVES, *training_curves(rows))
    files.write_text(paths.COMPARISON, comparison.page(rows, names, found))
    log.info("%d rows, see %s", len(rows), paths.COMPARISON)


if __name__ == "__main__":
    cli.run(main)
