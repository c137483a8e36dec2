"""The ranking of a row: the nearest gallery images of each query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.errors import UserError
from lineup.storage.parquet import read_table, write_table
from lineup.storage.schemas import RANKING


@dataclass(frozen=True)
class Ranking:
    """The nearest gallery images of each query, nearest first.

    query_ids: str [Q], sorted; gallery_ids: str [G], sorted: those that were found, at least;
    positions: int [Q, K] into gallery_ids, K at least 1, -1 behind a ranking's end; scores: float32 [Q, K],
        NaN there.
    """

    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.str_]
    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


_IDS_AT_ONCE = 2**24  # an array of texts holds 2 GiB, which 2^25 ids of 64 characters fill


def write_ranking(path: Path, ranking: Ranking) -> None:
    """The file says whose it is: the row that it's named after."""
    step = max(1, _IDS_AT_ONCE // max(1, ranking.positions.shape[1]))
    names = pa.array(ranking.gallery_ids.tolist(), pa.string())
    starts = range(0, max(1, len(ranking.query_ids)), step)
    whole = pa.concat_tables(_some_rankings(ranking, names, slice(start, start + step)) for start in starts)
    write_table(path, whole, {"row": path.stem})


def _some_rankings(ranking: Ranking, names: pa.StringArray, queries: slice) -> pa.Table:
    positions, scores = ranking.positions[queries], ranking.scores[queries]
    kept = positions >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]), pa.int32())
    return pa.table(
        {
            "query_id": pa.array(ranking.query_ids[queries], pa.string()),
            "gallery_ids": pa.ListArray.from_arrays(offsets, names.take(pa.array(positions[kept]))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[kept], pa.float32())),
        },
        schema=RANKING,
    )


def read_ranking(path: Path) -> Ranking:
    """`gallery_ids` holds the ids that occur in the rankings.

    UserError if the file says that it is another row's.
    """
    table = read_table(path, read_dictionary=["gallery_ids.list.element"]).combine_chunks()
    row = (table.schema.metadata or {}).get(b"row", b"").decode(errors="replace")
    if row != path.stem:
        raise UserError(
            f"{path}: says that it is the ranking of row {row!r}, not of {path.stem!r}; run `dvc repro -f -s retrieve@{path.stem}` "
            "(refine@ for a refinement), then `dvc repro`"
        )
    lists = table.column("gallery_ids").combine_chunks()
    lengths = pc.call_function("list_value_length", [lists]).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = lists.flatten().unify_dictionaries() if isinstance(lists, pa.ChunkedArray) else lists.flatten()
    if not pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_encode()
    names = np.array(flat.dictionary.to_pylist(), dtype=np.str_)
    order = np.argsort(names, kind="stable")
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    depth = max(1, int(lengths.max(initial=0)))
    kept = np.arange(depth) < lengths[:, None]
    positions = np.full((len(lengths), depth), -1, np.int64)
    scores = np.full((len(lengths), depth), np.nan, np.float32)
    positions[kept] = place[flat.indices.to_numpy(zero_copy_only=False)] if len(names) else 0
    scores[kept] = table.column("scores").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Ranking(
        np.array(table.column("query_id").to_pylist(), dtype=np.str_), names[order], positions, scores
    )
