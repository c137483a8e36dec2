"""How good a row is on a second test set: one metric of each query, and metrics/rows/transfer/<row>.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import metrics
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.relevance.relevance import Relevance
from lineup.storage import csv_files, files

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DECIMALS = 6
QUERY_COLUMNS = ("query_id", "query", "label", "relevant", "first_hit", MAIN_METRIC)


class TransferMetrics(BaseModel):
    """A row's quality on a second test set.

    test_set, folder: as `transfer.sets` names them; fingerprint: of the row's vectors; scored: queries that
    have a relevant image; training_photos: photos of the set whose pixels are those of a training photo;
    map_at_r: the mean over the scored queries.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    test_set: str
    folder: str
    fingerprint: str
    queries: int
    scored: int
    gallery: int
    training_photos: int
    map_at_r: float


class Measured(NamedTuple):
    """A row on a second test set; queries: the columns query_id, label and map_at_r, of scored ones."""

    metrics: TransferMetrics
    queries: pa.Table


def map_at_r(positions: IntArray, relevance: Relevance) -> FloatArray:
    """The metric of each query, rounded; NaN where no gallery image is relevant.

    Args:
        positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end; K as
            `Relevance.required_depth` says.
    Returns:
        float [Q].
    """
    values = metrics.map_at_r(relevance.is_relevant(positions), relevance.num_relevant())
    return np.round(values, DECIMALS)


def query_lines(
    positions: IntArray, values: FloatArray, relevance: Relevance, manifest: pa.Table
) -> Iterator[Sequence[object]]:
    """The cells of QUERY_COLUMNS of each query.

    Args:
        positions, values: what `map_at_r` takes and returns.
        manifest: schemas.MANIFEST, at least `split`, `label` and `paths`.
    """
    queries = manifest.filter(pc.field("split") == "query")
    first_hits = metrics.first_hit(relevance.is_relevant(positions))
    columns = (queries.column("paths").to_pylist(), queries.column("label").to_pylist())
    numbers = (relevance.num_relevant().tolist(), first_hits.tolist(), values.tolist())
    ids = relevance.query_ids.tolist()
    for query_id, paths_of_query, label, relevant, hit, value in zip(ids, *columns, *numbers, strict=True):
        cell = "" if np.isnan(value) else f"{value:.{DECIMALS}f}"
        yield query_id, paths_of_query[0], label or "", relevant, hit or "", cell


def count_training_photos(manifest: pa.Table, training: pa.Table) -> int:
    """How many images of a second test set have the very pixels of a training photo.

    Args:
        manifest, training: schemas.MANIFEST, at least `image_id` and `pixels_id`.
    """
    of_training = pc.SetLookupOptions(training.column("pixels_id"))
    shared = manifest.filter(pc.call_function("is_in", [manifest.column("pixels_id")], of_training))
    return len(set(shared.column("image_id").to_pylist()))


def write(measured: TransferMetrics, lines: Iterable[Sequence[object]]) -> None:
    """Writes a row's figures, and its table of queries."""
    files.write_json(paths.transfer_metrics(measured.row), measured.model_dump())
    csv_files.write_csv(paths.transfer_queries(measured.row), QUERY_COLUMNS, lines)


def read(row: str) -> Measured:
    """What `write` wrote of a row.

    Raises:
        UserError: a file does not exist, or is not what this version writes.
    """
    path, table = paths.transfer_metrics(row), paths.transfer_queries(row)
    repair = f"run `dvc repro -f -s transfer@{row}`"
    try:
        measured = TransferMetrics.model_validate(files.read_json(path))
    except ValidationError:
        raise UserError(f"{path}: isn't what this version writes; {repair}") from None
    columns = {"query_id": pa.string(), "label": pa.string(), MAIN_METRIC: pa.float64()}
    try:
        queries = csv_files.read_csv_columns(table, columns)
    except FileNotFoundError:
        raise files.missing(table) from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{table}: isn't what this version writes ({reason}); {repair}") from None
    return Measured(measured, queries.filter(queries.column(MAIN_METRIC).is_valid()))
