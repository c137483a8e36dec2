"""compare: the rows of params.yaml side by side, and which differences between them are more than chance.

It reads git-tracked files only, and of those exactly the ones of params.yaml's rows. `lineup show` prints the
result.
"""

from __future__ import annotations

import logging

from lineup import cli, paths
from lineup.evaluation import (
    comparison,
    dvc_views,
    latency,
    markdown,
    money,
    query_tables,
    row_metrics,
    slice_sentences,
    slices,
    speeds,
    sweeps,
)
from lineup.evaluation.pairs import compare_pairs
from lineup.settings import prices
from lineup.storage import csv_files, files

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    cli.no_options("compare", argv)
    params = cli.start_stage("compare")
    rows = row_metrics.read_all((*params.models, *params.refinements))
    measured = latency.read_all(rows)
    alone, comparable = speeds.alone(measured, rows), speeds.comparable(measured, rows)
    rows_alone, rows = speeds.with_speeds(rows, alone), speeds.with_speeds(rows, comparable)
    running = money.running_costs(rows, comparable, prices.load())
    metric_names = comparison.shown_metrics(rows, params.score.cutoffs)
    queries = query_tables.read_all(rows, metric_names)
    pairs = compare_pairs(queries, metric_names, params.score.bootstrap_samples, params.seed)
    compared = comparison.compare(rows, metric_names, pairs, running)
    files.write_json(paths.METRICS, dvc_views.metrics(rows_alone, metric_names, alone))
    csv_files.write_csv(paths.SIGNIFICANCE, *dvc_views.significance_table(pairs))
    csv_files.write_csv(paths.TOP_K_CURVES, *dvc_views.top_k_curves(rows, queries))
    csv_files.write_csv(paths.IDENTIFICATION_CURVES, *dvc_views.identification_curves(rows))
    csv_files.write_csv(paths.ACCURACY_COST, *dvc_views.accuracy_cost(rows))
    csv_files.write_csv(paths.TRAINING_CURVES, *dvc_views.training_curves(rows))
    csv_files.write_csv(paths.SWEEPS, *sweeps.table(sweeps.find(params), rows))
    weaknesses = slice_sentences.weaknesses(compared, slices.read(paths.SLICES))
    files.write_text(paths.COMPARISON, markdown.page(compared, weaknesses))
    log.info("%d rows, see %s", len(rows), paths.COMPARISON)
    if unlisted := row_metrics.unlisted(rows):
        log.info("%s", unlisted)


if __name__ == "__main__":
    cli.run(main)
