"""What `score` writes about a row, metrics/rows/<row>.json, as typed records."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from lineup import paths
from lineup.errors import UserError, printable
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.quality_records import Average, EditedCopies, Identification, Partial, Range
from lineup.evaluation.record import Record
from lineup.settings.sections import Exclude
from lineup.storage import files

_ROWS_SHOWN = 3
# Metrics that divide by the number of all relevant images, which nobody knows where pairs are not judged.
OF_ALL_RELEVANT = ("map_", "r_precision", "recall_")
# Of the column and the figure with the greatest value of a metric whose own is the least.
MOST_SUFFIX = "_most"
# Written where people judged and where a row was trained, so that other files stay as they are.
_WRITTEN_IF_ANY = ("people", "partial", "training")


def precision_name(k: int) -> str:
    """The name under which precision at k is stored and shown."""
    return f"precision_{k}"


class OwnPicture(Record):
    """How often a query's picture is in the gallery, too: pairs of query and gallery image."""

    same_bytes: int
    other_bytes: int


class Judgements(Record):
    """The lines of qrels.csv, and how many of them are about photos that cannot be read."""

    lines: int
    left_out: int


class JudgesAgreement(Record):
    """How far two judges agree on the pairs that both judged; see lineup/relevance/agreement.py."""

    first: str
    second: str
    pairs: int
    agreed: int
    kappa: float | None


class PeopleJudged(Record):
    """What data/judgements.csv says of a collection, the same for all its rows.

    pairs, queries: pairs that were judged, and the queries that they are about; left_out: pairs of photos
    that are not here, or that rankings leave out; judges: how many people; disagreements: pairs on which they
    differ; agreements: of each two judges who have pairs in common; without_right: queries that count as 0,
    as no right image is known.
    """

    pairs: int
    queries: int
    left_out: int
    judges: int
    without_right: int
    disagreements: int
    agreements: tuple[JudgesAgreement, ...]


class Enlarged(Record):
    """How many of the test images are smaller than `resize_px`, to which a row's transform resizes them."""

    images: int
    of: int
    resize_px: int


class TrainingLabels(Record):
    """The labels that a row was trained with.

    labelled_photos: with a label that it may see, those held out included; labels: how many labels the photos
    have that its weights were trained on; in_test: which of these are labels of queries, too, sorted.
    """

    labelled_photos: int
    labels: int
    in_test: tuple[str, ...]


class RowMetrics(Record):
    """How good a row's rankings are, on which queries, and what the row costs.

    relevance: what decided which images are relevant; unscored: why nothing could be scored, None if it was;
    labels, clusters: of the scored queries, where a query without a label is a cluster of its own; depth: of
    the rankings; quality: by metric, empty where nothing could be scored; identification: None then, too;
    edits: by kind of edit; people: None where nobody judged a pair; partial: None where the relevance of all
    answers is known; training: None of a row that wasn't trained.
    """

    row: str
    relevance: Literal["labels", "qrels", "none"]
    unscored: str | None
    queries: int
    scored: int
    without_label: int
    without_answer: int
    labels: int
    clusters: int
    gallery: int
    exclude: Exclude
    own_picture: OwnPicture
    depth: int
    judgements: Judgements | None
    enlarged: Enlarged | None
    quality: dict[str, Average]
    identification: Identification | None
    costs: RowCosts
    edits: dict[str, EditedCopies] = Field(default_factory=dict[str, EditedCopies])
    people: PeopleJudged | None = None
    partial: Partial | None = None
    training: TrainingLabels | None = None

    def range_of(self, metric: str) -> Range | None:
        """What a metric's mean can be; None where it is exact, or where only `mean` is known."""
        return self.partial.ranges.get(metric) if self.partial else None

    def is_exact(self, metric: str) -> bool:
        """Whether no unknown answer could change a metric's mean, R aside for `ndcg_k`."""
        if self.partial is None:
            return True
        no_r = bool(self.partial.judged_at) and metric.startswith(OF_ALL_RELEVANT)
        return metric not in self.partial.ranges and not no_r

    @property
    def is_partly_judged(self) -> bool:
        """Whether the relevance of some pairs is unknown."""
        return bool(self.partial and self.partial.judged_at)

    def middle(self, metric: str) -> float:
        """A metric's mean, or the middle of its range: what rows are ordered by."""
        own = self.range_of(metric)
        return self.quality[metric].mean if own is None else (own.least + own.most) / 2

    @property
    def edited(self) -> int:
        """How many of the scored queries are edited copies."""
        return sum(copies.queries for copies in self.edits.values())

    @property
    def edits_only(self) -> bool:
        """Whether all scored queries are edited copies: then the figures say nothing of relevance."""
        return 0 < self.edited == self.scored


def write(metrics: RowMetrics) -> None:
    """Writes a row's metrics."""
    content = metrics.model_dump()
    for name in _WRITTEN_IF_ANY:
        if content[name] is None:
            del content[name]
    files.write_json(paths.row_metrics(metrics.row), content)


def read(row: str) -> RowMetrics:
    """The metrics of a row.

    Raises:
        UserError: the file does not exist, is another row's, or is not what this version writes.
    """
    path = paths.row_metrics(row)
    try:
        metrics = RowMetrics.model_validate(files.read_json(path))
    except ValidationError:
        metrics = None
    if metrics is None or metrics.row != row:
        raise UserError(
            f"{path}: isn't what this version writes for {row}; run `dvc repro -f -s score@{row}`"
        )
    return metrics


def read_all(rows: Iterable[str]) -> dict[str, RowMetrics]:
    """The metrics of several rows, by row. Raises what `read` raises."""
    return {row: read(row) for row in rows}


def note_on_removed_rows(rows: Container[str]) -> str:
    """A sentence on the files of rows that were removed from params.yaml; empty if there are none.

    No stage reads them, and none removes them: a row that was taken out for a while comes back with its
    figures.
    """
    scored = (path.stem for path in Path().glob(paths.row_metrics("*").as_posix()))
    removed = sorted(row for row in scored if row not in rows)
    if not removed:
        return ""
    shown = printable(", ".join(removed[:_ROWS_SHOWN])) + (", …" if len(removed) > _ROWS_SHOWN else "")
    return (
        f"metrics/ also has figures of rows that params.yaml lacks ({shown}); "
        "`git rm metrics/*/ROW.*` removes those of a row"
    )
