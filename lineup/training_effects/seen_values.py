"""How trained rows do on queries with a value of an attribute that no training photo has.

Such a value may be another brand. The attributes are the text columns of data/raw/attributes.csv. A row's
start is that of `seen_labels`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup.evaluation import figure_tables
from lineup.evaluation.significance import FloatArray, IntArray
from lineup.storage import csv_files, schemas
from lineup.training_effects import against_start, seen_labels
from lineup.training_effects.seen_labels import GROUPS, OfLabels

BoolArray = npt.NDArray[np.bool_]
HEADER = ("attribute", *seen_labels.HEADER)


class Grouping(NamedTuple):
    """Whether a training photo has each query's value of an attribute.

    seen, unseen: bool [N]; neither where a query's value is unknown.
    """

    attribute: str
    seen: BoolArray
    unseen: BoolArray


class OfValues(NamedTuple):
    """A trained row's figures over the queries whose value of an attribute is seen, or is not."""

    attribute: str
    figures: OfLabels


def of_queries(attributes: pa.Table, query_ids: Sequence[str]) -> list[Grouping]:
    """A grouping for each attribute of which some query has a value that no training photo has.

    Args:
        attributes: data/prepared/test/attributes.parquet, of all the queries.
        query_ids: of the queries that are grouped, all of which are scored.
    """
    metadata = attributes.schema.metadata or {}
    of_training = json.loads(metadata.get(schemas.TRAINING_VALUES.encode(), b"{}"))
    queries = attributes.filter(pc.field("split") == "query")
    ids = queries.column("image_id").to_pylist()
    groupings = []
    for attribute, training in of_training.items():
        known_in_training = {*training}
        of_query = dict(zip(ids, queries.column(attribute).to_pylist(), strict=True))
        values = [of_query[query_id] for query_id in query_ids]
        known = np.array([value is not None for value in values], bool)
        seen = np.array([value in known_in_training for value in values], bool) & known
        if (known & ~seen).any():
            groupings.append(Grouping(attribute, seen, known & ~seen))
    return groupings


def compute(
    starts: Mapping[str, str | None],
    values: Mapping[str, FloatArray],
    labels: IntArray,
    groupings: Iterable[Grouping],
    *,
    metric: str,
    samples: int,
    seed: int,
) -> list[OfValues]:
    """Every trained row in both groups of each attribute; a group without queries is left out.

    Args:
        starts: of each trained row, its start.
        values: by row, the metric of each scored query, float [N].
        labels: int [N], what `query_tables.label_codes` returned.
        groupings: of the same queries.
        metric: its name.
        samples: of the bootstrap.
    """
    attributes: list[str] = []
    computed: list[OfLabels] = []
    for grouping in groupings:
        for row, start in starts.items():
            for group, member in zip(GROUPS, (grouping.seen, grouping.unseen), strict=True):
                if not member.any():
                    continue
                own = values[row][member]
                away = own - values[start][member] if start is not None else None
                of = against_start.measure(own, away, labels[member], samples, seed)
                attributes.append(grouping.attribute)
                computed.append(OfLabels.of(row, start, group, metric, of))
    return list(map(OfValues, attributes, seen_labels.adjusted(computed)))


def write(path: Path, computed: Iterable[OfValues]) -> None:
    """metrics/seen_values.csv; what can't be told is empty."""
    lines = ([each.attribute, *seen_labels.cells(each.figures)] for each in computed)
    csv_files.write_csv(path, HEADER, lines)


def read(path: Path) -> list[OfValues]:
    """The lines of metrics/seen_values.csv. Raises UserError if it does not exist or is damaged."""
    return figure_tables.read(
        path, lambda line: OfValues(line["attribute"], seen_labels.of_line(line)), "slices"
    )
