"""What the front page is made from: figures of all rows that git has, and the list of the test photos."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lineup import paths
from lineup.comparison.comparison import Pair
from lineup.costs import latency, money, speeds
from lineup.costs.money import RunningCosts
from lineup.evaluation import row_metrics
from lineup.evaluation.row_metrics import RowMetrics
from lineup.report import charts, collection, made, overview, query_figures
from lineup.report.collection import Collection
from lineup.report.query_figures import QueryFigures
from lineup.settings import prices
from lineup.settings.params import Params
from lineup.slices import slices
from lineup.slices.slices import Slice
from lineup.storage import csv_files, parquet
from lineup.summary.tables import Section
from lineup.training_effects import seen_labels, seen_values, training_sections, transfer


@dataclass(frozen=True)
class PageSources:
    """The contents of all these files.

    rows: the metrics of each row, at the speeds that were measured; running: what they cost to run.
    queries: the figures of each row's queries. images: the test photos.
    pairs, curves, groups, leaks: significance.csv, top_k_curves.csv, slices.csv and leaks.csv.
    attributes: of the test photos; None where there are no groups.
    on_training: what trained rows gained, and what was forgotten.
    figures_blob: metrics/metrics.json as git names its content.
    """

    rows: dict[str, RowMetrics]
    running: dict[str, RunningCosts]
    queries: dict[str, QueryFigures]
    images: Collection
    pairs: list[Pair]
    curves: dict[str, list[float]]
    groups: list[Slice]
    leaks: list[dict[str, str]]
    attributes: pa.Table | None
    on_training: list[Section]
    figures_blob: str


def read(manifest: pa.Table, params: Params) -> PageSources:
    """Reads all of them.

    Args:
        manifest: of the test photos, as `collection.read` takes it.
    Raises:
        UserError: a file does not exist, or has a fault.
    """
    rows = row_metrics.read_all((*params.models, *params.refinements))
    measured = speeds.comparable(latency.read_all(rows), rows)
    rows = speeds.with_speeds(rows, measured)
    running = money.running_costs(rows, measured, prices.load())
    queries = {row: query_figures.read_query_figures(paths.row_queries(row)) for row in rows}
    groups = slices.read(paths.SLICES)
    return PageSources(
        rows,
        running,
        queries,
        collection.read(manifest),
        pairs=overview.read_pairs(paths.SIGNIFICANCE),
        curves=charts.read_curves(paths.TOP_K_CURVES),
        groups=groups,
        leaks=csv_files.read_csv(paths.LEAKS),
        attributes=parquet.read_table(paths.ATTRIBUTES) if groups else None,
        on_training=training_sections.sections(
            seen_labels.read(paths.SEEN_LABELS),
            seen_values.read(paths.SEEN_VALUES),
            transfer.read(paths.TRANSFER),
            params,
        ),
        figures_blob=made.blob_id(paths.METRICS),
    )
