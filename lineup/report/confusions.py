"""Queries whose first answer has another label: what a row confuses, and what looks like a duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from lineup.report.collection import Collection
from lineup.report.query_figures import QueryFigures

# A wrong first answer counts as a near-duplicate where its score is above this share of the right ones'.
NEAR_DUPLICATE_QUANTILE = 0.95


def confused(own: QueryFigures, collection: Collection) -> Iterator[tuple[int, int, int]]:
    """The scored queries of a row whose first answer has another label and is not relevant.

    Yields:
        The query, its label's number, and that of the answer's label.
    """
    numbers = collection.label_numbers
    for q in range(len(collection.queries.ids)):
        label = int(collection.queries.label[q])
        answered = numbers.get(own.top_label[q], label)
        if own.relevant[q] > 0 and label >= 0 and answered != label and own.first_hit[q] != 1:
            yield q, label, answered


def near_duplicates(own: QueryFigures, collection: Collection) -> list[int]:
    """Queries whose first answer is a near-duplicate under another label, in order.

    Scores of different rows have different scales, so a row's wrong first answers are compared with its right
    ones: those above their quantile NEAR_DUPLICATE_QUANTILE. Without a right one there is none.
    """
    right = own.top_score[(own.relevant > 0) & (own.first_hit == 1)]
    if not len(right):
        return []
    least = np.quantile(right, NEAR_DUPLICATE_QUANTILE)
    return [q for q, _, _ in confused(own, collection) if own.top_score[q] > least]


def heat_map(own: QueryFigures, collection: Collection, most_labels: int) -> dict[str, Any]:
    """How often queries of one label get a first answer of another, for the labels that are confused most.

    Returns:
        `labels`: numbers, sorted, at most `most_labels`: those of the most frequent pairs. `cells`: [label of
        the query, label of its first answer, count] of pairs of these labels, with a label's own pair for its
        queries that are not confused. `others`: how many confused queries are of other pairs.
    """
    pairs = Counter((label, answered) for _, label, answered in confused(own, collection))
    labels: set[int] = set()
    for pair, _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if len(labels | {*pair}) <= most_labels:
            labels |= {*pair}
    scored = Counter(collection.queries.label[own.relevant > 0].tolist())
    lost = Counter(label for label, _ in pairs.elements())
    cells = [
        *((label, label, scored[label] - lost[label]) for label in labels),
        *((*pair, count) for pair, count in pairs.items() if labels >= {*pair}),
    ]
    shown = sum(count for pair, count in pairs.items() if labels >= {*pair})
    return {
        "labels": sorted(labels),
        "cells": [list(cell) for cell in sorted(cells)],
        "others": pairs.total() - shown,
    }
