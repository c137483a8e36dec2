"""compare: the rows of params.yaml side by side, and which differences between them are more than chance.

It reads git-tracked files only, and of those exactly the ones of params.yaml's rows. `lineup show` prints the
result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import comparison, dvc_views, markdown, row_metrics
from lineup.evaluation.pairs import Queries, compare_pairs
from lineup.evaluation.row_metrics import RowMetrics
from lineup.storage import csv_files, files

log = logging.getLogger(__name__)


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


def check_same_task(rows: Mapping[str, RowMetrics], queries: Queries) -> None:
    """UserError unless all rows were scored on the same queries and gallery: else they cannot be compared."""
    first = next(iter(rows))
    task_columns = ["query_id", "label", "relevant"]
    for name in rows:
        for key in ("gallery", "relevance", "exclude", "queries", "scored", "edited"):
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
    pairs = compare_pairs(queries, metric_names, params.score.bootstrap_samples, params.seed)
    compared = comparison.compare(rows, metric_names, pairs)
    files.write_json(paths.METRICS, dvc_views.metrics(rows))
    csv_files.write_csv(paths.SIGNIFICANCE, *dvc_views.significance_table(pairs))
    csv_files.write_csv(paths.TOP_K_CURVES, *dvc_views.top_k_curves(rows, queries))
    csv_files.write_csv(paths.ACCURACY_COST, *dvc_views.accuracy_cost(rows))
    csv_files.write_csv(paths.TRAINING_CURVES, *dvc_views.training_curves(rows))
    files.write_text(paths.COMPARISON, markdown.page(compared))
    log.info("%d rows, see %s", len(rows), paths.COMPARISON)


if __name__ == "__main__":
    cli.run(main)
