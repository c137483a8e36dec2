"""What training has forgotten: trained rows against their starts on a second test set, and on their own.

Source of the problem: arXiv 2508.12137.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from lineup import paths
from lineup.comparison.comparison import Pair
from lineup.errors import UserError
from lineup.evaluation import figure_tables, query_tables, transfer_metrics
from lineup.evaluation.figure_tables import Difference
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.significance import FloatArray
from lineup.evaluation.transfer_metrics import Measured
from lineup.settings.sections import Transfer
from lineup.storage import csv_files
from lineup.training_effects import against_start


class Transferred(NamedTuple):
    """A row on a second test set; a line of metrics/transfer.csv.

    test_set, folder: as `transfer.sets` names them; start: the row that it started from, None unless it is
    trained and its start was measured on the same set; queries, labels: of the set that are scored, where a
    query without a label counts as one; mean: of map_at_r, with low and high, its 95% interval; to_start:
    that mean minus the start's, p_holm adjusted for all rows; at_home: the row minus its start on the test of
    data/raw, None where map_at_r is not exact there; training_photos: of the set.
    low, high and the interval of to_start are None where there are too few queries or labels to tell.
    """

    model: str
    start: str | None
    test_set: str
    folder: str
    queries: int
    labels: int
    mean: float
    low: float | None
    high: float | None
    to_start: Difference | None
    at_home: Difference | None
    training_photos: int

    @property
    def is_large(self) -> bool:
        """Whether the set has enough queries and labels to tell anything."""
        return against_start.is_large(self.queries, self.labels)


_DIFFERENCES = ("to_start", "at_home")
HEADER = (
    *Transferred._fields[:9],
    *(f"{name}{end}" for name in _DIFFERENCES for end in ("", "_low", "_high", "_p_holm")),
    "training_photos",
)


def read_measured(settings: Transfer) -> dict[str, Measured]:
    """The figures of all rows that `transfer.rows` names, by row.

    Raises:
        UserError: a file is missing or damaged, or rows were measured on other photos.
    """
    measured = {row: transfer_metrics.read(row) for row in settings.rows}
    first: dict[str, str] = {}
    for row, (figures, queries) in measured.items():
        named = settings.rows[row]
        same = first.setdefault(named, row)
        other = measured[same]
        if (figures.row, figures.test_set, figures.folder) != (row, named, settings.sets[named]):
            raise UserError(f"{paths.transfer_metrics(row)}: is of another row or set; run `dvc repro`")
        if figures.gallery != other.metrics.gallery or not _task(queries).equals(_task(other.queries)):
            raise UserError(
                f"{paths.transfer_queries(row)}: is of other photos than {paths.transfer_queries(same)}; "
                "run `dvc repro`"
            )
    return measured


def _task(queries: pa.Table) -> pa.Table:
    return queries.select(["query_id", "label"])


def compute(
    measured: Mapping[str, Measured],
    starts: Mapping[str, str | None],
    pairs: Iterable[Pair],
    samples: int,
    seed: int,
) -> list[Transferred]:
    """Every row on its second test set.

    Args:
        measured: what `read_measured` returned.
        starts: of each trained row, its start.
        pairs: of rows, on the test of data/raw.
        samples: of the bootstrap.
    """
    at_home = {(pair.a, pair.b): pair for pair in pairs if pair.metric == MAIN_METRIC}
    at_home |= {(pair.b, pair.a): pair.reversed() for pair in at_home.values()}
    computed: list[Transferred] = []
    for row, own in measured.items():
        start = starts.get(row)
        of_start = None if start is None else measured.get(start)
        if of_start is None or of_start.metrics.test_set != own.metrics.test_set:
            start, away = None, None
        else:
            away = _values(own) - _values(of_start)
        pair = at_home.get((row, start or ""))
        of = against_start.measure(_values(own), away, query_tables.label_codes(own.queries), samples, seed)
        computed.append(
            Transferred(
                row,
                start,
                own.metrics.test_set,
                own.metrics.folder,
                *of,
                at_home=Difference(pair.difference, pair.low, pair.high, pair.p_holm) if pair else None,
                training_photos=own.metrics.training_photos,
            )
        )
    differences = against_start.adjusted([each.to_start for each in computed])
    return [each._replace(to_start=to_start) for each, to_start in zip(computed, differences, strict=True)]


def _values(measured: Measured) -> FloatArray:
    return measured.queries.column(MAIN_METRIC).to_numpy()


def write(path: Path, computed: Iterable[Transferred]) -> None:
    """metrics/transfer.csv; what can't be told is empty."""
    csv_files.write_csv(path, HEADER, map(_cells, computed))


def _cells(each: Transferred) -> list[object]:
    differences = map(figure_tables.of_difference, (each.to_start, each.at_home))
    numbers = (each.mean, each.low, each.high, *chain.from_iterable(differences))
    return [each.model, each.start or "", *each[2:6], *figure_tables.cells(numbers), each.training_photos]


def read(path: Path) -> list[Transferred]:
    """The lines of metrics/transfer.csv. Raises UserError if it does not exist or is damaged."""
    return figure_tables.read(path, _transferred, "compare")


def _transferred(line: Mapping[str, str]) -> Transferred:
    return Transferred(
        model=line["model"],
        start=line["start"] or None,
        test_set=line["test_set"],
        folder=line["folder"],
        queries=int(line["queries"]),
        labels=int(line["labels"]),
        mean=float(line["mean"]),
        low=figure_tables.number(line, "low"),
        high=figure_tables.number(line, "high"),
        to_start=figure_tables.difference(line, "to_start"),
        at_home=figure_tables.difference(line, "at_home"),
        training_photos=int(line["training_photos"]),
    )
