"""score@row: how good a row's rankings are, of each query and on average, and what the row costs."""

from __future__ import annotations

import logging

from lineup import cli, paths
from lineup.evaluation import latency, row_costs, row_metrics, scoring
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.relevance import COLUMNS, gallery_positions, judgements, read_relevance
from lineup.evaluation.row_metrics import Judgements
from lineup.storage import csv_files, parquet, rankings

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("score", argv, rows="all")
    manifest = parquet.read_table(paths.manifest("test"), columns=[*COLUMNS, "paths", "width", "height"])
    qrels = parquet.read_table(paths.QRELS)
    relevance = read_relevance(manifest, qrels, params.relevance.exclude)
    ranking = rankings.read_ranking(paths.ranking(row))
    positions = gallery_positions(ranking, relevance, str(paths.ranking(row)))
    scores = scoring.score(positions, relevance, params.score.cutoffs)
    quality = scoring.averages(scores, relevance, params.score.bootstrap_samples, params.seed)
    samples, seed = params.score.bootstrap_samples, params.seed
    identified = scoring.identify(scores, ranking.scores, relevance, params.score.fpir, samples, seed)
    refinement = params.refinements.get(row)
    if refinement:
        costs = row_costs.refinement_costs(row, refinement.first, refinement.second)
    else:
        costs = row_costs.model_costs(row)
    judged = judgements(qrels)
    summary = scoring.summarise(
        row,
        scores,
        relevance,
        quality,
        identified,
        costs,
        depth=ranking.positions.shape[1],
        judged=Judgements(**judged) if judged else None,
        enlarged=scoring.count_enlarged(manifest, costs.resize_px) if costs.resize_px else None,
        edits=scoring.edited_copies(scores, manifest),
    )
    row_metrics.write(summary)
    latency.publish(row)
    lines = scoring.query_lines(scores, ranking, positions, relevance, manifest)
    csv_files.write_csv(paths.row_queries(row), [*scoring.QUERY_COLUMNS, *scores.values], lines)
    if summary.unscored:
        log.warning("%s: nothing can be scored", summary.unscored)
    else:
        mean = quality[MAIN_METRIC].mean
        log.info("map_at_r %.3f over %d of %d queries", mean, summary.scored, summary.queries)


if __name__ == "__main__":
    cli.run(main)
