"""The ranking of a row: the nearest gallery images of each query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lineup.errors import UserError
from lineup.storage import parquet
from lineup.storage.files import missing
from lineup.storage.parquet import read_table, write_table
from lineup.storage.schemas import RANKING


@dataclass(frozen=True)
class Ranking:
    """The nearest gallery images of each query, nearest first.

    Attributes:
        query_ids: str [Q], sorted.
        gallery_ids: str [G], sorted; all that occur in a ranking, at least.
        positions: int [Q, K] into gallery_ids, K at least 1; -1 after the end of a ranking.
        scores: float32 [Q, K]; NaN after the end of a ranking.
    """

    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.str_]
    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


# An Arrow array of texts holds at most 2 GiB, which 2^25 ids of 64 characters fill.
_IDS_PER_ARRAY = 2**24
# Whose results are in memory at once, however deep their rankings are.
_QUERIES_PER_BATCH = 256


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Writes a ranking; the file's metadata name the row, which is the stem of its path."""
    step = max(1, _IDS_PER_ARRAY // max(1, ranking.positions.shape[1]))
    names = pa.array(ranking.gallery_ids.tolist(), pa.string())
    starts = range(0, max(1, len(ranking.query_ids)), step)
    whole = pa.concat_tables(_table(ranking, names, slice(start, start + step)) for start in starts)
    write_table(path, whole, {"row": path.stem})


def _table(ranking: Ranking, names: pa.StringArray, queries: slice) -> pa.Table:
    """The rows of some queries; names: all gallery_ids."""
    positions, scores = ranking.positions[queries], ranking.scores[queries]
    ranked = positions >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(ranked.sum(axis=1))]), pa.int32())
    return pa.table(
        {
            "query_id": pa.array(ranking.query_ids[queries], pa.string()),
            "gallery_ids": pa.ListArray.from_arrays(offsets, names.take(pa.array(positions[ranked]))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[ranked], pa.float32())),
        },
        schema=RANKING,
    )


def read_ranking(path: Path) -> Ranking:
    """A row's ranking; its `gallery_ids` are those that occur in it.

    Raises:
        UserError: the file does not exist, is damaged, or names another row.
    """
    table = read_table(path, read_dictionary=["gallery_ids.list.element"]).combine_chunks()
    _check_row(path, table.schema)
    lists = table.column("gallery_ids").combine_chunks()
    lengths = pc.call_function("list_value_length", [lists]).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = lists.flatten().unify_dictionaries() if isinstance(lists, pa.ChunkedArray) else lists.flatten()
    if not pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_encode()
    names = np.array(flat.dictionary.to_pylist(), dtype=np.str_)
    order = np.argsort(names, kind="stable")
    sorted_position = np.empty(len(names), np.int64)
    sorted_position[order] = np.arange(len(names))
    depth = max(1, int(lengths.max(initial=0)))
    ranked = np.arange(depth) < lengths[:, None]
    positions = np.full((len(lengths), depth), -1, np.int64)
    scores = np.full((len(lengths), depth), np.nan, np.float32)
    indices = flat.indices.to_numpy(zero_copy_only=False)
    positions[ranked] = sorted_position[indices] if len(names) else 0
    scores[ranked] = table.column("scores").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Ranking(
        np.array(table.column("query_id").to_pylist(), dtype=np.str_), names[order], positions, scores
    )


class FirstResults(NamedTuple):
    """The first results of each query.

    Attributes:
        query_ids: str [Q], sorted.
        lengths: int [Q], how many results each has.
        gallery_ids: dictionary<string>, the results of one query after another, nearest first.
    """

    query_ids: list[str]
    lengths: npt.NDArray[np.int64]
    gallery_ids: pa.DictionaryArray


def read_first_results(path: Path, depth: int) -> FirstResults:
    """As `read_ranking`, but only the first `depth` results; deeper ones are never in memory all at once."""
    if not path.exists():
        raise missing(path)
    query_ids, lengths, results = list[str](), [np.empty(0, np.int64)], list[pa.Array]()
    with parquet.intact(path), pq.ParquetFile(path, read_dictionary=["gallery_ids.list.element"]) as file:
        _check_row(path, file.schema_arrow)
        for batch in file.iter_batches(_QUERIES_PER_BATCH, columns=["query_id", "gallery_ids"]):
            first = pc.call_function("list_slice", [batch.column(1)], pc.ListSliceOptions(0, depth))
            query_ids += batch.column(0).to_pylist()
            lengths.append(pc.call_function("list_value_length", [first]).to_numpy(zero_copy_only=False))
            results.append(first.flatten().cast(pa.string()))
    flat = pa.chunked_array(results, pa.string()).combine_chunks().dictionary_encode()
    return FirstResults(query_ids, np.concatenate(lengths).astype(np.int64), flat)


def _check_row(path: Path, schema: pa.Schema) -> None:
    """UserError if a file is the ranking of another row than its name says."""
    row = (schema.metadata or {}).get(b"row", b"").decode(errors="replace")
    if row != path.stem:
        raise UserError(
            f"{path}: says that it is the ranking of row {row!r}, not of {path.stem!r}; "
            f"run `dvc repro -f -s retrieve@{path.stem}` (refine@ for a refinement), then `dvc repro`"
        )
