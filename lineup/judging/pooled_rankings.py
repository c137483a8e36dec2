"""Reads the pool from the rankings of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.judging.pool import SPARE_ANSWERS, Pool
from lineup.settings.params import Params
from lineup.storage import rankings


def choose_rows(params: Params, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The rows to judge, and those that are left out because they are not ranked here.

    Args:
        wanted: rows of params; none for all of them.
    Raises:
        UserError: a wanted row is not ranked here, or no row is.
    """
    rows = list(dict.fromkeys(wanted or (*params.models, *params.refinements)))
    absent = [row for row in rows if not paths.ranking(row).exists()]
    if wanted and absent:
        raise UserError(f"{paths.ranking(absent[0])}: does not exist; run `dvc repro`, or `dvc pull` it")
    if len(absent) == len(rows):
        raise UserError(
            f"{paths.ranking(rows[0]).parent}: no row is ranked here; run `dvc repro`, or `dvc pull`"
        )
    return [row for row in rows if row not in absent], absent


def read_pool(rows: Sequence[str], k: int, query_ids: Sequence[str]) -> Pool:
    """The first answers of some rows.

    Args:
        query_ids: of the test manifest, sorted.
    Raises:
        UserError: a ranking does not exist, is damaged, or is of other queries.
    """
    depth = k + SPARE_ANSWERS
    results = [_first_results(row, depth, query_ids) for row in rows]
    dictionaries = pa.chunked_array([first.gallery_ids.dictionary for first in results], pa.string())
    names = dictionaries.unique().sort()
    ranked = np.full((len(rows), len(query_ids), depth), -1, np.int32)
    for row, first in enumerate(results):
        lookup = pc.SetLookupOptions(names)
        positions = pc.call_function("index_in", [first.gallery_ids.dictionary], lookup).to_numpy()
        is_ranked = np.arange(depth) < first.lengths[:, None]
        codes = first.gallery_ids.indices.to_numpy(zero_copy_only=False)
        ranked[row][is_ranked] = positions[codes] if len(positions) else -1
    gallery_ids = np.array(names.to_pylist(), np.str_)
    return Pool(tuple(rows), k, np.array(query_ids, np.str_), gallery_ids, ranked)


def _first_results(row: str, depth: int, query_ids: Sequence[str]) -> rankings.FirstResults:
    path = paths.ranking(row)
    first = rankings.read_first_results(path, depth)
    if first.query_ids != list(query_ids):
        raise UserError(
            f"{path}: ranks other images than {paths.manifest('test')} holds; run `dvc repro` to search again"
        )
    return first
