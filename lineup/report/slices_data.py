"""The groups of queries as the report's scripts read them: which queries are in each, how rows do there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lineup import paths
from lineup.errors import UserError
from lineup.slices import slice_groups
from lineup.slices.slices import Slice

Cell = list[float | str | None]


def slices_data(
    slices: Sequence[Slice], attributes: pa.Table, query_ids: Sequence[str], scored: npt.NDArray[np.bool_]
) -> dict[str, Any] | None:
    """What the page's scripts read as LINEUP.slices; None where no attribute says anything.

    Args:
        slices: of metrics/slices.csv.
        attributes: data/prepared/test/attributes.parquet.
        query_ids: of all queries, in the page's order.
        scored: bool [Q], whether each of them is scored.
    Returns:
        `metric`; `attributes`: of each its `name`, its `groups`, how many `queries` each has, and the number
        of each query's group (`of`), -1 for queries that are not scored; `rows`: by row, for each attribute
        and group [mean, low, high, to_mean, its p, to_best, its p, note] of `slices.Slice`.
    Raises:
        UserError: the two files are of different queries.
    """
    if not slices:
        return None
    by_attribute: dict[str, dict[str, dict[str, Slice]]] = defaultdict(lambda: defaultdict(dict))
    for each in slices:
        by_attribute[each.attribute][each.group][each.model] = each
    positions: list[int] = np.flatnonzero(scored).tolist()
    groupings = {
        grouping.attribute: grouping
        for grouping in slice_groups.of_queries(attributes, [query_ids[q] for q in positions])
    }
    described: list[dict[str, Any]] = []
    cells: dict[str, list[list[Cell]]] = {each.model: [] for each in slices}
    for name, groups in by_attribute.items():
        grouping = groupings.get(name)
        if grouping is None or grouping.groups != tuple(groups):
            raise UserError(f"{paths.SLICES}: is of other queries than {paths.ATTRIBUTES}; run `dvc repro`")
        of = np.full(len(query_ids), -1, np.int64)
        of[positions] = grouping.codes
        counts = np.bincount(grouping.codes, minlength=len(groups)).tolist()
        described.append({"name": name, "groups": [*groups], "queries": counts, "of": of.tolist()})
        for row, of_row in cells.items():
            of_row.append([_cell(group, row) for group in groups.values()])
    return {"metric": slices[0].metric, "attributes": described, "rows": cells}


def _cell(group: Mapping[str, Slice], row: str) -> Cell:
    own = group[row]
    to_best = (own.to_best.value, own.to_best.p_holm) if own.to_best else (None, None)
    return [own.mean, own.low, own.high, own.to_mean.value, own.to_mean.p_holm, *to_best, own.note]
