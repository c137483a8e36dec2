"""Cuts the queries into groups by each attribute: numbers into quarters, texts by their values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError, printable

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# A group of fewer queries can't be told from chance: texts of fewer are put together.
FEWEST_QUERIES = 10
# Numbers of at most so many different values are groups as they are.
MOST_NUMBERS_AS_VALUES = 6
# Of an attribute's texts, the most frequent ones are groups, and the others one together.
MOST_TEXTS = 20
UNKNOWN = "(unknown)"
_MAX_TEXT_CHARACTERS = 100
_SIGNIFICANT_DIGITS = 3
_QUARTERS = (0.25, 0.5, 0.75)


class Grouping(NamedTuple):
    """The groups of one attribute, of which every query is in exactly one.

    groups: their names, such as "12.1 to 48.7" or "Windows": ranges from low to high, texts from the most
    frequent on, then "(other: 7 values)" and "(unknown)"; codes: int [N], each query's group.
    """

    attribute: str
    groups: tuple[str, ...]
    codes: IntArray


def of_queries(attributes: pa.Table, query_ids: Sequence[str]) -> Iterator[Grouping]:
    """The groupings of queries by each attribute, in the table's order.

    Args:
        attributes: data/prepared/test/attributes.parquet.
        query_ids: of the queries that are grouped, all of which are scored.
    Raises:
        UserError: the table lacks one of the queries.
    """
    queries = attributes.filter(pc.field("split") == "query")
    row_of = {image_id: row for row, image_id in enumerate(queries.column("image_id").to_pylist())}
    if not row_of.keys() >= set(query_ids):
        raise UserError(f"{paths.ATTRIBUTES}: is of other queries than metrics/queries; run `dvc repro`")
    aligned = queries.take(pa.array([row_of[query_id] for query_id in query_ids], pa.int64()))
    for name in aligned.column_names:
        if name not in ("image_id", "split"):
            yield group(name, aligned.column(name))


def group(attribute: str, values: pa.ChunkedArray) -> Grouping:
    """The groups of one attribute.

    Args:
        values: [N], numbers or texts; null where unknown.
    """
    known = np.asarray(values.is_valid())
    if pa.types.is_string(values.type):
        names = _text_names(values.drop_null().to_pylist())
    else:
        names = _number_names(values.drop_null().to_numpy().astype(np.float64))
    order = names.order if known.all() else [*names.order, UNKNOWN]
    groups = tuple(dict.fromkeys(order))
    code = {name: number for number, name in enumerate(groups)}
    codes = np.full(len(values), code.get(UNKNOWN, 0), np.int64)
    codes[known] = [code[name] for name in names.labels]
    return Grouping(attribute, groups, codes)


class _Names(NamedTuple):
    """order: the names of groups; labels: the name of each value's group."""

    order: list[str]
    labels: list[str]


def _text_names(values: Sequence[str]) -> _Names:
    shown = [printable(value, _MAX_TEXT_CHARACTERS) for value in values]
    counts = Counter(shown)
    order = sorted(counts, key=lambda text: (-counts[text], text))
    small = [text for rank, text in enumerate(order) if rank >= MOST_TEXTS or counts[text] < FEWEST_QUERIES]
    if len(small) < 2:
        return _Names(order, shown)
    other, joined = f"(other: {len(small):,} values)", set(small)
    return _Names(
        [text for text in order if text not in joined] + [other],
        [other if text in joined else text for text in shown],
    )


def _number_names(values: FloatArray) -> _Names:
    distinct = np.unique(values)
    if len(distinct) == 0:
        return _Names([], [])
    edges = distinct[:-1] if len(distinct) <= MOST_NUMBERS_AS_VALUES else _edges(values, distinct)
    codes = np.searchsorted(edges, values)
    order = _ranges(
        [(values[codes == code].min(), values[codes == code].max()) for code in range(len(edges) + 1)]
    )
    return _Names(order, [order[code] for code in codes])


def _edges(values: FloatArray, distinct: FloatArray) -> FloatArray:
    """The largest value of each group but the last, ascending: those up to the three quartiles.

    A value that fills a quarter or more is a group of its own, apart from what is below it.
    """
    quartiles = distinct[np.searchsorted(distinct, np.quantile(values, _QUARTERS), side="right") - 1]
    edges = set(quartiles)
    for value in {*quartiles[:-1][quartiles[:-1] == quartiles[1:]], distinct[-1]} & edges:
        edges |= set(distinct[distinct < value][-1:])
    return np.array(sorted(edges - {distinct[-1]}))


def _ranges(ends: Sequence[tuple[float, float]]) -> list[str]:
    """The names of ranges, with as many digits as it takes for all to differ."""
    for digits in range(_SIGNIFICANT_DIGITS, 18):
        names = [
            _number(low, digits) if low == high else f"{_number(low, digits)} to {_number(high, digits)}"
            for low, high in ends
        ]
        if len(set(names)) == len(names):
            return names
    raise AssertionError(f"ranges that are alike: {ends}")


def _number(value: float, digits: int) -> str:
    """A number with so many significant digits, and all digits before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -6 < magnitude < 15:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(0, digits - 1 - magnitude)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
