"""transfer@row: how good a row is on a second test set, for the rows that `transfer.rows` names.

Embeds only photos that no earlier run has embedded, and searches exactly.
"""

from __future__ import annotations

import logging

import faiss
import numpy as np
import pyarrow as pa

from lineup import cli, machine, paths
from lineup.embedding import computation, job
from lineup.embedding.job import EmbedJob
from lineup.encoders import origin
from lineup.errors import UserError, printable
from lineup.evaluation import transfer_metrics
from lineup.evaluation.transfer_metrics import TransferMetrics
from lineup.relevance.prepared_relevance import COLUMNS, read_relevance
from lineup.relevance.relevance import Relevance
from lineup.search import ground_truth
from lineup.search.vectors import Metric, Positions, prepare_vectors
from lineup.settings import prepared_size, trained_rows
from lineup.settings.params import Params
from lineup.storage import parquet

log = logging.getLogger(__name__)


def set_of(row: str, params: Params) -> str:
    """The name of the row's second test set. Raises UserError if `transfer.rows` does not name the row."""
    if row not in params.transfer.rows:
        sets = ", ".join(params.transfer.sets) or "SET"
        raise UserError(f"{paths.PARAMS}: transfer.rows lacks {row}; add `{row}: {sets}` there")
    return params.transfer.rows[row]


def search(embedded: EmbedJob, metric: Metric, relevance: Relevance) -> Positions:
    """The nearest gallery images of each query, as deep as the metric needs: int64 [Q, K]."""
    source = str(embedded.photos)
    batches = [prepare_vectors(metric, *batch, source) for batch in job.read(embedded, "query")]
    gallery = (prepare_vectors(metric, *batch, source) for batch in job.read(embedded, "gallery"))
    return ground_truth.neighbours(
        metric, np.concatenate(batches), relevance.excluded(), gallery, relevance.required_depth(1)
    )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("transfer", argv)
    name = set_of(row, params)
    folder = params.transfer.sets[name]
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool holds on to the freed bytes of photos
    faiss.omp_set_num_threads(machine.threads())
    manifest = parquet.read_table(paths.transfer_manifest(name), columns=[*COLUMNS, "paths"])
    qrels = parquet.read_table(paths.transfer_qrels(name))
    relevance = read_relevance(manifest, qrels, params.relevance.exclude)
    if not relevance.num_relevant().any():
        raise UserError(
            f"{folder}: no query has a right answer in its gallery; put its photos into a folder per label, "
            "or add labels.csv or qrels.csv"
        )
    config = origin.model_config(row, params)
    prepared_size.check(row, config.resize_px, params.preprocess.shorter_side_px)
    embedded = job.prepare_photos(row, paths.transfer_images(name), params.embed_of(row))
    stats = computation.compute(embedded, params.embed)
    positions = search(embedded, params.models[row].search.metric, relevance)
    values = transfer_metrics.map_at_r(positions, relevance)
    training = parquet.read_table(paths.manifest("train"), columns=["pixels_id"])
    measured = TransferMetrics(
        row=row,
        test_set=name,
        folder=folder,
        fingerprint=embedded.key,
        queries=len(values),
        scored=int((~np.isnan(values)).sum()),
        gallery=len(relevance.gallery_ids),
        training_photos=transfer_metrics.count_training_photos(manifest, training),
        map_at_r=round(float(np.nanmean(values)), transfer_metrics.DECIMALS),
    )
    transfer_metrics.write(measured, transfer_metrics.query_lines(positions, values, relevance, manifest))
    log.info(
        "%s: map_at_r %.3f over %d of %d queries of %s; %d of %d vectors computed now",
        row,
        measured.map_at_r,
        measured.scored,
        measured.queries,
        printable(folder),
        stats.computed,
        stats.images,
    )
    if fix := trained_rows.missing_starts(params).get(row):
        log.warning("%s: is compared with no start: in transfer.rows, %s", row, fix)


if __name__ == "__main__":
    cli.run(main)
