"""score@row: how good a row's rankings are, of each query and on average, and what the row costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, paths
from lineup.costs import latency, row_costs
from lineup.evaluation import query_lines, row_metrics, row_summary, scoring
from lineup.evaluation.averages import averages, partial
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.identification_figures import identify
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.quality_records import Average
from lineup.evaluation.row_metrics import Judgements, RowMetrics, precision_name
from lineup.relevance import judgements
from lineup.relevance.judged_relevance import JudgedRelevance, with_people
from lineup.relevance.prepared_relevance import COLUMNS, qrels_lines, read_relevance
from lineup.relevance.relevance import gallery_positions
from lineup.settings.params import Params
from lineup.storage import csv_files, parquet, rankings

log = logging.getLogger(__name__)


def query_labels(manifest: pa.Table) -> list[str | None]:
    """The label of each query; None where it is unknown."""
    return manifest.filter(pc.field("split") == "query").column("label").to_pylist()


def read_costs(row: str, params: Params) -> RowCosts:
    """The costs of a row, with those of what it is made of."""
    refinement = params.refinements.get(row)
    if refinement is None:
        return row_costs.model_costs(row)
    return row_costs.refinement_costs(row, refinement.first, refinement.second)


def log_quality(summary: RowMetrics, quality: Mapping[str, Average], deepest_cutoff: int) -> None:
    """Logs the mean of the main metric; where that is a range, of the precision at the deepest cutoff."""
    if summary.unscored:
        log.warning("%s: nothing can be scored", summary.unscored)
        return
    metric = MAIN_METRIC if summary.is_exact(MAIN_METRIC) else precision_name(deepest_cutoff)
    log.info("%s %.3f over %d of %d queries", metric, quality[metric].mean, summary.scored, summary.queries)


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("score", argv, rows="all")
    manifest = parquet.read_table(paths.manifest("test"), columns=[*COLUMNS, "paths", "width", "height"])
    qrels = parquet.read_table(paths.QRELS)
    people = judgements.read(paths.JUDGEMENTS)
    relevance = with_people(
        read_relevance(manifest, qrels, params.relevance.exclude), judgements.resolved(people)
    )
    ranking = rankings.read_ranking(paths.ranking(row))
    positions = gallery_positions(ranking, relevance, str(paths.ranking(row)))
    if isinstance(relevance, JudgedRelevance):
        ranking, positions = relevance.without_junk(ranking, positions)
    scores = scoring.score(positions, relevance, params.score.cutoffs)
    samples, seed = params.score.bootstrap_samples, params.seed
    quality = averages(scores, relevance, samples, seed)
    identified = identify(scores, ranking.scores, relevance, params.score.fpir, samples, seed)
    costs = read_costs(row, params)
    judged = qrels_lines(qrels)
    summary = row_summary.summarise(
        row,
        scores,
        relevance,
        quality,
        identified,
        costs,
        depth=ranking.positions.shape[1],
        judged=Judgements(**judged) if judged else None,
        enlarged=row_summary.count_enlarged(manifest, costs.resize_px) if costs.resize_px else None,
        edits=row_summary.edited_copies(scores, manifest),
        people=row_summary.people_judged(people, relevance, scores),
        partial=partial(scores, relevance, samples, seed),
        training=row_costs.training_labels(row, query_labels(manifest)) if row in params.models else None,
    )
    row_metrics.write(summary)
    latency.publish(row)
    lines = query_lines.lines(scores, ranking, positions, relevance, manifest)
    csv_files.write_csv(paths.row_queries(row), query_lines.columns(scores), lines)
    log_quality(summary, quality, max(params.score.cutoffs))


if __name__ == "__main__":
    cli.run(main)
