"""The figures of a row's queries, which git tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lineup.errors import UserError
from lineup.storage import csv_files


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
