"""What training has forgotten: trained rows against their starts on a second test set, and on their own.

Source of the problem: arXiv 2508.12137.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import query_tables, seen_labels, significance, transfer_metrics
from lineup.evaluation.comparison import Pair
from lineup.evaluation.dvc_views import CsvTable
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.significance import FloatArray, IntArray
from lineup.evaluation.slice_groups import FEWEST_QUERIES
from lineup.evaluation.slices import FEWEST_FLIPS, FEWEST_LABELS, FLIPS_PER_SLICE, Difference
from lineup.evaluation.transfer_metrics import Measured
from lineup.settings.params import Transfer


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
        return self.queries >= FEWEST_QUERIES and self.labels >= FEWEST_LABELS


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
    tested: list[float | None] = []
    for row, own in measured.items():
        start = starts.get(row)
        of_start = None if start is None else measured.get(start)
        if of_start is None or of_start.metrics.test_set != own.metrics.test_set:
            line, p = _line(row, None, own, None, samples, seed)
        else:
            line, p = _line(row, start, own, _values(own) - _values(of_start), samples, seed)
        if pair := at_home.get((row, line.start or "")):
            home = Difference(pair.difference, pair.low, pair.high, pair.p_holm)
            line = line._replace(at_home=home)
        computed.append(line)
        tested.append(p)
    adjusted = iter(significance.holm(np.array([p for p in tested if p is not None], np.float64)).tolist())
    return [
        line
        if p is None or line.to_start is None
        else line._replace(to_start=line.to_start._replace(p_holm=next(adjusted)))
        for line, p in zip(computed, tested, strict=True)
    ]


def _values(measured: Measured) -> FloatArray:
    return measured.queries.column(MAIN_METRIC).to_numpy()


def _line(
    row: str, start: str | None, measured: Measured, away: FloatArray | None, samples: int, seed: int
) -> tuple[Transferred, float | None]:
    """A row's figures without those at home, and the p value of its difference to its start.

    Args:
        away: float [N], the row minus its start; None where it has none.
    """
    figures, own = measured.metrics, _values(measured)
    clusters = significance.cluster_codes(query_tables.label_codes(measured.queries))
    line = Transferred(
        model=row,
        start=start,
        test_set=figures.test_set,
        folder=figures.folder,
        queries=len(own),
        labels=int(clusters.max()) + 1,
        mean=float(own.mean()),
        low=None,
        high=None,
        to_start=None if away is None else Difference(float(away.mean()), None, None, None),
        at_home=None,
        training_photos=figures.training_photos,
    )
    if not line.is_large:
        return line, None
    columns = np.column_stack([own] if away is None else [own, away])
    low, high = significance.bootstrap_interval(columns, clusters, samples, seed)
    line = line._replace(low=float(low[0]), high=float(high[0]))
    if away is None:
        return line, None
    p = _p(away, clusters, seed)
    return line._replace(to_start=Difference(float(away.mean()), float(low[1]), float(high[1]), p)), p


def _p(away: FloatArray, clusters: IntArray, seed: int) -> float:
    # As many flips as Holm's correction of some dozens of rows takes.
    flips = FEWEST_FLIPS + 2 * FLIPS_PER_SLICE
    return float(significance.randomisation_test(away[:, None], clusters, flips, seed)[0])


def table(computed: Iterable[Transferred]) -> CsvTable:
    """metrics/transfer.csv; what can't be told is empty."""
    lines = []
    for each in computed:
        unknown = (None,) * len(Difference._fields)
        differences = (each.to_start or unknown, each.at_home or unknown)
        numbers = [each.mean, each.low, each.high, *(number for group in differences for number in group)]
        cells = ["" if number is None else f"{number:.6f}" for number in numbers]
        lines.append([each.model, each.start or "", *each[2:6], *cells, each.training_photos])
    return CsvTable(HEADER, lines)


def read(path: Path) -> list[Transferred]:
    """The lines of metrics/transfer.csv. Raises UserError if it does not exist or is damaged."""
    return seen_labels.read_lines(path, _transferred, "compare")


def _transferred(line: Mapping[str, str]) -> Transferred:
    def number(name: str) -> float | None:
        return float(line[name]) if line[name] else None

    def difference(name: str) -> Difference | None:
        value, ends = number(name), (number(f"{name}{end}") for end in ("_low", "_high", "_p_holm"))
        return None if value is None else Difference(value, *ends)

    return Transferred(
        model=line["model"],
        start=line["start"] or None,
        test_set=line["test_set"],
        folder=line["folder"],
        queries=int(line["queries"]),
        labels=int(line["labels"]),
        mean=float(line["mean"]),
        low=number("low"),
        high=number("high"),
        to_start=difference("to_start"),
        at_home=difference("at_home"),
        training_photos=int(line["training_photos"]),
    )
