"""What the report's front page shows of all rows, from git-tracked figures: it needs no row's large files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.comparison.comparison import Comparison, Pair
from lineup.errors import UserError
from lineup.report import confusions, suspects
from lineup.report.collection import Collection
from lineup.report.query_figures import QueryFigures
from lineup.storage import csv_files

LEAKS_SHOWN = 200
LABELS_OF_HEAT_MAP = 20


def read_pairs(path: Path) -> list[Pair]:
    """metrics/significance.csv; what is empty there is NaN."""
    numbers = ("difference", "low", "high", "p", "p_holm")
    return [
        Pair(
            line["metric"],
            line["model_a"],
            line["model_b"],
            *(float(line[name] or "nan") for name in numbers),
        )
        for line in csv_files.read_csv(path)
    ]


def query_data(
    figures: Mapping[str, QueryFigures],
    compared: Comparison,
    collection: Collection,
    models: Mapping[str, str],
) -> dict[str, Any]:
    """What the page's scripts read as LINEUP.queries: it filters and orders the query-by-query view.

    Args:
        models: by row, the row of models that its vectors come from.
    Raises:
        UserError: a row's figures are of other queries than the collection's.
    """
    for row, own in figures.items():
        if own.ids != collection.queries.ids.tolist():
            raise UserError(
                f"metrics/queries/{row}.csv: is of other queries than data/prepared/test; run `dvc repro`"
            )
    judges = suspects.judges(compared, models)
    return {
        "relevant": next(iter(figures.values())).relevant.tolist(),
        "rows": {
            row: {
                "first": own.first_hit.tolist(),
                "map_at_r": _numbers(own.map_at_r),
                "alike": confusions.near_duplicates(own, collection),
            }
            for row, own in figures.items()
        },
        "weak": label_figures(figures, collection),
        "confusions": {
            row: confusions.heat_map(own, collection, LABELS_OF_HEAT_MAP) for row, own in figures.items()
        },
        "suspects": suspects.label_suspects({row: figures[row] for row in judges}, collection),
        "judges": judges,
    }


def label_figures(figures: Mapping[str, QueryFigures], collection: Collection) -> dict[str, Any]:
    """How well the rows do on each label that has scored queries.

    Returns:
        `labels` (their numbers, sorted), `queries` (how many each has), and of each of `rows` the `mean` of
        map_at_r per label and what it was `confused` with: [label number, number of queries, number of other
        labels as frequent] of the wrong label that comes first most often, None where every first image has
        the right one.
    """
    relevant = next(iter(figures.values())).relevant
    queries_of: dict[int, list[int]] = defaultdict(list)
    for q in np.flatnonzero((relevant > 0) & (collection.queries.label >= 0)).tolist():
        queries_of[int(collection.queries.label[q])].append(q)
    labels = sorted(queries_of)
    label_numbers = collection.label_numbers
    rows = {}
    for row, own in figures.items():
        rows[row] = {
            "mean": [round(float(own.map_at_r[queries_of[label]].mean()), 4) for label in labels],
            "confused": [
                _most_frequent_confusion(own, queries_of[label], label_numbers, label) for label in labels
            ],
        }
    return {"labels": labels, "queries": [len(queries_of[label]) for label in labels], "rows": rows}


def _most_frequent_confusion(
    own: QueryFigures, queries: Iterable[int], label_numbers: Mapping[str, int], label: int
) -> list[int] | None:
    """The first of the wrong labels that come first most often, how often, and how many others as often."""
    answered = (label_numbers.get(own.top_label[q], label) for q in queries)
    wrong = Counter(number for number in answered if number != label)
    if not wrong:
        return None
    times = max(wrong.values())
    first, *others = sorted(number for number, count in wrong.items() if count == times)
    return [first, times, len(others)]


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in values.tolist()]
