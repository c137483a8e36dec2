"""slices: how good each row is in each group of queries, by the attributes of their photos and labels.

Like compare, it reads exactly the rows of params.yaml.
"""

from __future__ import annotations

import logging

from lineup import cli, paths
from lineup.comparison import comparison
from lineup.evaluation import query_tables, row_metrics, significance
from lineup.settings import trained_rows
from lineup.slices import slice_groups, slices
from lineup.storage import parquet
from lineup.training_effects import seen_values

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    cli.no_options("slices", argv)
    params = cli.start_stage("slices")
    rows = row_metrics.read_all((*params.models, *params.refinements))
    main_metric = comparison.shown_metrics(rows, params.score.cutoffs)[:1]
    # A range has no mean that groups could be compared by.
    metric_names = [name for name in main_metric if comparison.is_exact(rows, name)]
    queries = query_tables.read_all(rows, metric_names)
    computed: list[slices.Slice] = []
    seen: list[seen_values.OfValues] = []
    for metric in metric_names:
        scored = query_tables.scored(queries)
        first = next(iter(scored.values()))
        attributes = parquet.read_table(paths.ATTRIBUTES)
        values = {row: table.column(metric).to_numpy() for row, table in scored.items()}
        query_ids, labels = first.column("query_id").to_pylist(), query_tables.label_codes(first)
        computed = slices.compute(
            values,
            significance.cluster_codes(labels),
            slice_groups.of_queries(attributes, query_ids),
            metric=metric,
            best=comparison.best_row(rows, metric),
            samples=params.score.bootstrap_samples,
            seed=params.seed,
        )
        seen = seen_values.compute(
            trained_rows.starts(params),
            values,
            labels,
            seen_values.of_queries(attributes, query_ids),
            metric=metric,
            samples=params.score.bootstrap_samples,
            seed=params.seed,
        )
    slices.write(paths.SLICES, computed)
    seen_values.write(paths.SEEN_VALUES, seen)
    groups = len({(each.attribute, each.group) for each in computed})
    log.info("%d groups of queries, see %s", groups, paths.SLICES)


if __name__ == "__main__":
    cli.run(main)
