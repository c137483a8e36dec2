"""What each row scored on each query, metrics/queries/<row>.csv, as the rows are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.row_metrics import MOST_SUFFIX, RowMetrics
from lineup.storage import csv_files

Queries = Mapping[str, pa.Table]  # By row; the same queries in the same order.
FloatArray = npt.NDArray[np.float64]


def read_all(rows: Mapping[str, RowMetrics], metric_names: Sequence[str]) -> Queries:
    """What `read` returns of every row.

    Raises:
        UserError: what `read` and `check_same_task` raise.
    """
    queries = {
        row: read(row, [*metric_names, *_uncertain(metrics, metric_names)]) for row, metrics in rows.items()
    }
    check_same_task(rows, queries)
    return queries


def read(row: str, metric_names: Sequence[str]) -> pa.Table:
    """The columns of metrics/queries/<row>.csv that are compared, and map_at_r; an empty number is NaN.

    Raises:
        UserError: the file does not exist, or lacks one of the columns.
    """
    path = paths.row_queries(row)
    numbers = {name: pa.float64() for name in ("relevant", "first_hit", MAIN_METRIC, *metric_names)}
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
        for key in ("gallery", "relevance", "exclude", "queries", "scored", "edited", "people"):
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


def _uncertain(metrics: RowMetrics, metric_names: Sequence[str]) -> list[str]:
    """The columns with the greatest values of those metrics that are not exact."""
    return [f"{name}{MOST_SUFFIX}" for name in metric_names if metrics.range_of(name)]


def is_scored(queries: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each query counts: bool [Q]. The metrics of the others are NaN."""
    return ~np.isnan(queries.column(MAIN_METRIC).to_numpy())


def scored(queries: Queries) -> Queries:
    """The queries that count."""
    return {row: table.filter(pa.array(is_scored(table))) for row, table in queries.items()}


def ends(queries: pa.Table, metric: str) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest value of each query's metric: float [Q] each, equal where it is exact."""
    least = queries.column(metric).to_numpy()
    name = f"{metric}{MOST_SUFFIX}"
    return least, queries.column(name).to_numpy() if name in queries.column_names else least


def label_codes(queries: pa.Table) -> npt.NDArray[np.int64]:
    """A code for each query's label, -1 where it has none: int [Q]."""
    labels = queries.column("label").combine_chunks().dictionary_encode()
    known = np.array([label != "" for label in labels.dictionary.to_pylist()], bool)
    codes = labels.indices.to_numpy().astype(np.int64)
    return np.where(known[codes], codes, -1)
