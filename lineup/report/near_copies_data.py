"""A row's near copies as the report's scripts and a spreadsheet read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lineup.search import near_copies
from lineup.search.near_copy_pairs import DECIMALS, ComparedPair

COLUMNS = ("cosine", "agreement", "test", "test_label", "train", "train_label")


def near_copies_data(
    pairs: Sequence[ComparedPair], cosines: near_copies.Floats, training_photos: int
) -> dict[str, Any]:
    """What the page's scripts read as LINEUP_NEAR_COPIES[row].

    Args:
        pairs: the photos that are most alike.
        cosines: float32 [N], of each test photo and the training photo nearest to it.
        training_photos: how many there are.
    Returns:
        `train`, their number; `typical`, the median of the cosines, None without training photos; `pairs`;
        `same`, the agreement from which two pictures count as the same.
    """
    return {
        "train": training_photos,
        "typical": round(float(np.median(cosines)), DECIMALS) if training_photos else None,
        "pairs": [
            pair._asdict() | {"test": pair.test._asdict(), "train": pair.train._asdict()} for pair in pairs
        ],
        "same": near_copies.SAME_PICTURE,
    }


def table(pairs: Sequence[ComparedPair]) -> list[list[object]]:
    """A line of COLUMNS for each pair."""
    return [
        [
            pair.cosine,
            pair.agreement,
            " | ".join(pair.test.paths),
            pair.test.label,
            " | ".join(pair.train.paths),
            pair.train.label,
        ]
        for pair in pairs
    ]
