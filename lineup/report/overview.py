"""What the report's front page says of all rows, from git-tracked figures: no row's heavy files are needed
for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.errors import UserError
from lineup.evaluation import comparison
from lineup.evaluation.comparison import Pair, Rows
from lineup.report.collection import Collection
from lineup.storage import csv_files

LEAKS_SHOWN = 200


@dataclass(frozen=True)
class Figures:
    """metrics/queries/<row>.csv.

    relevant: R [Q]; first_hit: rank, 0 if none [Q]; map_at_r, top_score: NaN if none [Q].
    """

    ids: list[str]
    relevant: npt.NDArray[np.int64]
    first_hit: npt.NDArray[np.int64]
    map_at_r: npt.NDArray[np.float64]
    top_label: list[str]
    top_score: npt.NDArray[np.float64]


def read_figures(path: Path) -> Figures:
    lines = csv_files.read_csv(path)
    try:
        return Figures(
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
    names = ("difference", "low", "high", "p", "p_holm")
    return [
        Pair(r["metric"], r["model_a"], r["model_b"], *(float(r[name] or "nan") for name in names))
        for r in csv_files.read_csv(path)
    ]


def read_curves(path: Path) -> dict[str, list[float]]:
    """{row: top_k at k = 1, 2, ...}."""
    curves: dict[str, list[float]] = defaultdict(list)
    for line in csv_files.read_csv(path):
        curves[line["model"]].append(float(line["top_k"]))
    return dict(curves)


def chart_data(
    rows: Rows, found: comparison.Standings, curves: Mapping[str, list[float]], names: Sequence[str]
) -> dict[str, Any]:
    """What the page draws without any further file, rows from best to worst."""
    told = []
    for row in found.ordered:
        costs = rows[row]["costs"]
        told.append(
            {
                "name": row,
                "random": costs["random"],
                "best": row == found.best or row in found.alike,
                "quality": rows[row]["quality"].get("map_at_r"),
                "images_per_second": costs["images_per_second"],
                "device": costs["device"],
                "training": costs.get("training_curve") or [],
                "curve": curves.get(row, []),
            }
        )
    return {
        "rows": told,
        "cutoffs": sorted(int(name.removeprefix("top_")) for name in names if name.startswith("top_")),
    }


def query_data(figures: Mapping[str, Figures], rows: Rows, collection: Collection) -> dict[str, Any]:
    """Per query and row, what filters and orders the visual inspection.

    Per label what is found worst; likely label errors.
    """
    first = next(iter(figures.values()))
    for row, own in figures.items():
        if own.ids != collection.queries.ids.tolist():
            raise UserError(
                f"metrics/queries/{row}.csv: is of other queries than data/prepared/test; run `dvc repro`"
            )
    told = {
        row: {"first": own.first_hit.tolist(), "map_at_r": _numbers(own.map_at_r)}
        for row, own in figures.items()
    }
    trained = [row for row in figures if not rows[row]["costs"]["random"]]
    return {
        "relevant": first.relevant.tolist(),
        "rows": told,
        "weak": label_figures(figures, collection),
        "suspects": label_suspects({row: figures[row] for row in trained}, collection),
        "judges": trained,
    }


def label_figures(figures: Mapping[str, Figures], collection: Collection) -> dict[str, Any]:
    """Per label of scored queries: how many, and per row the mean of map_at_r and the wrong label that comes
    first most often.

    `confused`: [place in the collection's labels, times], null where every first answer is right.
    """
    relevant = next(iter(figures.values())).relevant
    groups: dict[int, list[int]] = defaultdict(list)
    for q in np.flatnonzero((relevant > 0) & (collection.queries.label >= 0)).tolist():
        groups[int(collection.queries.label[q])].append(q)
    place = {name: number for number, name in enumerate(collection.labels)}
    told = {}
    for row, own in figures.items():
        mean = [round(float(own.map_at_r[queries].mean()), 4) for _, queries in sorted(groups.items())]
        confused = [_most_frequent(own, queries, place, label) for label, queries in sorted(groups.items())]
        told[row] = {"mean": mean, "confused": confused}
    return {
        "labels": sorted(groups),
        "queries": [len(groups[label]) for label in sorted(groups)],
        "rows": told,
    }


def _most_frequent(
    own: Figures, queries: Iterable[int], place: Mapping[str, int], label: int
) -> list[int] | None:
    wrong = Counter(
        place[name] for q in queries if (name := own.top_label[q]) in place and place[name] != label
    )
    if not wrong:
        return None
    times = max(wrong.values())
    return [min(name for name, count in wrong.items() if count == times), times]


def label_suspects(figures: Mapping[str, Figures], collection: Collection) -> list[list[Any]]:
    """Queries that every row answers first with the same label, which is not theirs: [query, that label,
    confidence].

    Confidence, 0..1: how high the rows' first scores are among all their first scores, on average; the surest
    come first. Scores of different rows have different scales, ranks have one.
    """
    place = {name: number for number, name in enumerate(collection.labels)}
    if not figures:
        return []
    share = np.mean([_share_not_above(own.top_score) for own in figures.values()], axis=0)
    found = []
    for q, label in enumerate(collection.queries.label.tolist()):
        answered = {own.top_label[q] for own in figures.values()}
        right = any(
            own.first_hit[q] == 1 for own in figures.values()
        )  # judgements may say so of another label
        if (
            label >= 0
            and len(answered) == 1
            and not right
            and (other := place.get(answered.pop(), label)) != label
        ):
            found.append([q, other, round(float(share[q]), 4)])
    return sorted(found, key=lambda suspect: (-suspect[2], suspect[0]))


def _share_not_above(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    ordered = np.sort(values[~np.isnan(values)])
    return np.searchsorted(ordered, values, side="right") / max(len(ordered), 1)


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in values.tolist()]
