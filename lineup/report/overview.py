"""What the report's front page shows of all rows, from git-tracked figures: it needs no row's large files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.errors import UserError
from lineup.evaluation.comparison import Comparison, Pair
from lineup.report.collection import Collection
from lineup.storage import csv_files

LEAKS_SHOWN = 200


@dataclass(frozen=True)
class QueryFigures:
    """metrics/queries/<row>.csv.

    Attributes:
        ids: of the queries, [Q].
        relevant: int [Q], R of each query.
        first_hit: int [Q], rank of the first relevant image, 0 if none is in the ranking.
        map_at_r: float [Q], NaN where R is 0.
        top_label: of the first image of the ranking, "" if unknown, [Q].
        top_score: float [Q], of that image, NaN if the ranking is empty.
    """

    ids: list[str]
    relevant: npt.NDArray[np.int64]
    first_hit: npt.NDArray[np.int64]
    map_at_r: npt.NDArray[np.float64]
    top_label: list[str]
    top_score: npt.NDArray[np.float64]


def read_query_figures(path: Path) -> QueryFigures:
    """The figures of a row's queries.

    Raises:
        UserError: the file does not exist, or is not what this version writes.
    """
    lines = csv_files.read_csv(path)
    try:
        return QueryFigures(
            [line["query_id"] for line in lines],
            np.array([int(line["relevant"]) for line in lines], np.int64),
            np.array([int(float(line["first_hit"] or 0)) for line in lines], np.int64),
            np.array([float(line["map_at_r"] or "nan") for line in lines], np.float64),
            [line["top_label"] for line in lines],
            np.array([float(line["top_score"] or "nan") for line in lines], np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: isn't what this version writes ({error}); run `dvc repro -f -s score@{path.stem}`"
        ) from None


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
    figures: Mapping[str, QueryFigures], compared: Comparison, collection: Collection
) -> dict[str, Any]:
    """What the page's scripts read as LINEUP.queries: it filters and orders the query-by-query view.

    Raises:
        UserError: a row's figures are of other queries than the collection's.
    """
    for row, own in figures.items():
        if own.ids != collection.queries.ids.tolist():
            raise UserError(
                f"metrics/queries/{row}.csv: is of other queries than data/prepared/test; run `dvc repro`"
            )
    trained = {row.name for row in compared.trained}
    judges = {row: own for row, own in figures.items() if row in trained}
    return {
        "relevant": next(iter(figures.values())).relevant.tolist(),
        "rows": {
            row: {"first": own.first_hit.tolist(), "map_at_r": _numbers(own.map_at_r)}
            for row, own in figures.items()
        },
        "weak": label_figures(figures, collection),
        "suspects": label_suspects(judges, collection),
        "judges": list(judges),
    }


def label_figures(figures: Mapping[str, QueryFigures], collection: Collection) -> dict[str, Any]:
    """How well the rows do on each label that has scored queries.

    Returns:
        `labels` (their numbers, sorted), `queries` (how many each has), and of each of `rows` the `mean` of
        map_at_r per label and what it was `confused` with: [label number, number of queries] of the wrong
        label that comes first most often, None where every first image has the right one.
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
    """The wrong label that comes first most often, and how often; of equally frequent ones the first."""
    answered = (label_numbers.get(own.top_label[q], label) for q in queries)
    wrong = Counter(number for number in answered if number != label)
    if not wrong:
        return None
    times = max(wrong.values())
    return [min(number for number, count in wrong.items() if count == times), times]


def label_suspects(figures: Mapping[str, QueryFigures], collection: Collection) -> list[list[Any]]:
    """Queries whose label may be wrong: every row ranks an image of one and the same other label first.

    Returns:
        [query, that label's number, confidence] each, the most confident first. Confidence, 0..1, is the
        share of a row's first scores that are not above the query's, mean over rows: scores of different rows
        have different scales, but their ranks have one.
    """
    if not figures:
        return []
    label_numbers = collection.label_numbers
    confidence = np.mean([_share_not_above(own.top_score) for own in figures.values()], axis=0)
    suspects = []
    for q, label in enumerate(collection.queries.label.tolist()):
        top_labels = {own.top_label[q] for own in figures.values()}
        # By judgements, an image with another label may be relevant.
        is_right = any(own.first_hit[q] == 1 for own in figures.values())
        if label < 0 or len(top_labels) > 1 or is_right:
            continue
        other = label_numbers.get(top_labels.pop(), label)
        if other != label:
            suspects.append([q, other, round(float(confidence[q]), 4)])
    return sorted(suspects, key=lambda suspect: (-suspect[2], suspect[0]))


def _share_not_above(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each value the share of all values, NaN aside, that are not above it: float [Q] -> [Q]."""
    ordered = np.sort(values[~np.isnan(values)])
    return np.searchsorted(ordered, values, side="right") / max(len(ordered), 1)


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in values.tolist()]
