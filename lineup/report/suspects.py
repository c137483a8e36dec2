"""Queries whose label may be wrong: most of the best rows agree on one and the same other label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lineup.comparison.comparison import Comparison
from lineup.report.collection import Collection
from lineup.report.query_figures import QueryFigures

# One row's contradiction is most often its own mistake, so this many rows judge, where there are as many.
FEWEST_JUDGES = 3


def judges(compared: Comparison, models: Mapping[str, str]) -> list[str]:
    """The rows that question a label: the best and those not told apart from it, and at least FEWEST_JUDGES.

    Rows with random weights judge nothing. Of the rows of one model, only the best judges: they make the same
    mistakes.

    Args:
        models: by row, the row of models that its vectors come from.
    """
    by_model = {models[row.name]: row.name for row in reversed(compared.trained)}
    trained = [row.name for row in compared.trained if row.name in by_model.values()]
    undecided = {row.name for row in compared.with_outcome("undecided")}
    return [row for number, row in enumerate(trained) if number < FEWEST_JUDGES or row in undecided]


def label_suspects(figures: Mapping[str, QueryFigures], collection: Collection) -> list[list[Any]]:
    """Queries for which more than half of the rows rank an image of one and the same other label first.

    Args:
        figures: of the rows that judge.
    Returns:
        [query, that label's number, confidence, votes] each; those with the most votes first, and of these
        the most confident. Confidence, 0..1, is the share of a row's first scores that are not above the
        query's, mean over the rows that agree: scores of different rows have different scales, but their
        ranks have one.
    """
    label_numbers = collection.label_numbers
    confidence = {row: _share_not_above(own.top_score) for row, own in figures.items()}
    suspects = []
    for q, label in enumerate(collection.queries.label.tolist()):
        # By judgements, an image with another label may be relevant: such a row contradicts nothing.
        others = {
            row: label_numbers.get(own.top_label[q], label)
            for row, own in figures.items()
            if own.first_hit[q] != 1
        }
        if label < 0 or not others:
            continue
        other, votes = min(Counter(others.values()).items(), key=lambda item: (-item[1], item[0]))
        if other != label and 2 * votes > len(figures):
            agreeing = [confidence[row][q] for row in others if others[row] == other]
            suspects.append([q, other, round(float(np.mean(agreeing)), 4), votes])
    return sorted(suspects, key=lambda suspect: (-suspect[3], -suspect[2], suspect[0]))


def _share_not_above(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each value the share of all values, NaN aside, that are not above it: float [Q] -> [Q]."""
    ordered = np.sort(values[~np.isnan(values)])
    return np.searchsorted(ordered, values, side="right") / max(len(ordered), 1)
