"""compare: the rows of params.yaml side by side, and which differences between them are more than chance.

It reads git-tracked files only, and of those exactly the ones of params.yaml's rows. `lineup show` prints the
result.
"""

from __future__ import annotations

import logging

from lineup import cli, paths
from lineup.comparison import comparison, dvc_views, sweeps
from lineup.comparison.pairs import compare_pairs
from lineup.costs import latency, money, speeds
from lineup.evaluation import query_tables, row_metrics
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.settings import prices, trained_rows
from lineup.slices import slices
from lineup.storage import csv_files, files
from lineup.summary import learning_curves, markdown, precision_twins, slice_sentences
from lineup.summary.tables import Section
from lineup.training_effects import seen_labels, seen_values, training_sections, transfer

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
    curves = sweeps.by_photos(sweeps.find(params), rows)
    csv_files.write_csv(paths.SWEEPS, *sweeps.table(curves, rows))
    starts, samples = trained_rows.starts(params), params.score.bootstrap_samples
    seen: list[seen_labels.OfLabels] = []
    if metric_names and comparison.is_exact(rows, metric_names[0]):
        seen = seen_labels.compute(starts, rows, queries, metric_names[0], samples, params.seed)
    seen_labels.write(paths.SEEN_LABELS, seen)
    values = seen_values.read(paths.SEEN_VALUES)
    measured_elsewhere = transfer.read_measured(params.transfer)
    exact_pairs = pairs if comparison.is_exact(rows, MAIN_METRIC) else []
    forgotten = transfer.compute(measured_elsewhere, starts, exact_pairs, samples, params.seed)
    transfer.write(paths.TRANSFER, forgotten)
    weaknesses = slice_sentences.weaknesses(compared, slices.read(paths.SLICES))
    twins = precision_twins.find(params, rows, pairs, metric_names)
    sections = [
        Section(precision_twins.TITLE, precision_twins.table(twins), precision_twins.sentences(twins)),
        Section(learning_curves.TITLE, None, [*learning_curves.sentences(curves, rows, pairs, metric_names)]),
        *training_sections.sections(seen, values, forgotten, params),
    ]
    files.write_text(paths.COMPARISON, markdown.page(compared, weaknesses, map(markdown.section, sections)))
    log.info("%d rows, see %s", len(rows), paths.COMPARISON)
    if note := row_metrics.note_on_removed_rows(rows):
        log.info("%s", note)


if __name__ == "__main__":
    cli.run(main)
