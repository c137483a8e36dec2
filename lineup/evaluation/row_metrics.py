"""What `score` writes about a row, metrics/rows/<row>.json, as typed records."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lineup import paths
from lineup.errors import UserError, printable
from lineup.settings.params import Exclude
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


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Average(_Record):
    """A metric averaged over a row's queries.

    low, high: the mean's 95% interval, None where all queries have one label.
    mean_over_labels: mean of the labels' means, None where there are no labels.
    """

    mean: float
    low: float | None
    high: float | None
    mean_over_labels: float | None


class OwnPicture(_Record):
    """How often a query's picture is in the gallery, too: pairs of query and gallery image."""

    same_bytes: int
    other_bytes: int


class Judgements(_Record):
    """The lines of qrels.csv, and how many of them are about photos that cannot be read."""

    lines: int
    left_out: int


class JudgesAgreement(_Record):
    """How far two judges agree on the pairs that both judged; see lineup/evaluation/agreement.py."""

    first: str
    second: str
    pairs: int
    agreed: int
    kappa: float | None


class PeopleJudged(_Record):
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


class Range(_Record):
    """What a row's mean can be where the relevance of some answers is unknown.

    low: lower end of the 95% interval of the least mean; high: upper end of that of the greatest one.
    """

    least: float
    most: float
    low: float | None
    high: float | None


class Partial(_Record):
    """What the figures of a row leave open, where the relevance of some answers is unknown.

    ranges: by metric, of those that have one. judged_at: {"k": mean share of the first k answers whose
    relevance is known}; empty where the relevance of every pair is, and only the order of images behind a
    ranking's end is not. Where it has values, metrics that divide by R are never exact and have no range:
    `mean` counts unknown answers as wrong, as trec_eval does. depth_needed: how deep rankings would have to
    be, as junk leaves too few of their images; None where it leaves enough.
    """

    ranges: dict[str, Range]
    judged_at: dict[str, float]
    depth_needed: int | None = None


class Enlarged(_Record):
    """How many of the test images are smaller than `resize_px`, to which a row's transform resizes them."""

    images: int
    of: int
    resize_px: int


class EditedCopies(_Record):
    """Scored queries that are edited copies of gallery photos, by one kind of edit.

    top_1: the share of them whose original, or an exact copy of that, comes first.
    """

    queries: int
    top_1: float


class Rate(_Record):
    """A share of searches, 0..1, with its 95% interval, which is None where all queries have one label."""

    value: float
    low: float | None
    high: float | None


class OperatingPoint(_Record):
    """A threshold for a row's scores, and its errors on labels that it was not chosen on.

    target: the FPIR that it was chosen for; threshold: the score from which on an answer is given, None if no
    score is high enough.
    """

    target: float
    threshold: float | None
    fpir: Rate
    fnir: Rate


class ScoreHistogram(_Record):
    """How many first answers have a score between two bounds: right ones, and those of non-mated searches."""

    bounds: tuple[float, ...]
    right: tuple[int, ...]
    non_mated: tuple[int, ...]


class Identification(_Record):
    """How well a row tells whether a query has a match at all; see lineup/evaluation/identification.py.

    mated, non_mated: searches with and without a relevant image in the gallery; stand_ins: of the latter, how
    many are mated queries whose relevant images were left out; unsupported: FPIRs for which there are too few
    non-mated searches; curve: (FPIR, FNIR) at thresholds that were chosen on all searches.
    """

    mated: int
    non_mated: int
    stand_ins: int
    micro_average_precision: Rate
    recall_at_precision_90: Rate
    operating_points: tuple[OperatingPoint, ...]
    unsupported: tuple[float, ...]
    curve: tuple[tuple[float, float], ...]
    histogram: ScoreHistogram


class TrainingEpoch(BaseModel):
    """An epoch of a row's fine-tuning; epoch 0 is the encoder before training, which has no loss.

    It may have more fields, which the comparison does not show.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    epoch: float
    map_at_r: float | None = None
    loss: float | None = None
    learning_rate: float | None = None


class ApproximateIndex(_Record):
    """What was chosen for an approximate index, and which share of the nearest images it finds.

    ann_recall: {"k": share of the k nearest images by exact search that it finds}, of the queries.
    ann_recall_tuned: the same share where the index was tuned.
    """

    index: str
    storage: str
    parameters: dict[str, int | float]
    ann_recall: dict[str, float]
    recall_target: float | None = None
    ann_recall_tuned: float | None = None


class PartCosts(_Record):
    """What one of the rows that a row is made of adds to its costs; None where it was not measured.

    transform_ms: the share of query_ms that takes a query's vector into the row's own space.
    """

    images_per_second: float | None
    dim: int | None
    index_mb: float | None
    query_ms: float | None
    parameters: int | None
    gflops: float | None
    train_minutes: float | None
    transform_ms: float = 0.0


class RowCosts(PartCosts):
    """What a row costs in all; None where it was not measured, or differs between the rows it is made of.

    images_per_second: images embedded per second; dim: dimensions of a vector; index_mb: size of the index on
    disk; query_ms: time to search for one query; gflops: of one image; image_size: side in pixels of the
    images that the network gets; resize_px: shorter side in pixels to which the transform resizes, before it
    crops; parts: of a refinement, by row; search: of an approximate index.
    """

    device: str | None = None
    engine: str | None = None
    precision: str | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    image_size: int | None = None
    resize_px: int | None = None
    licence: str | None = None
    random: bool
    search_device: str
    search_threads: int
    train_note: str | None = None
    training_curve: tuple[TrainingEpoch, ...] = ()
    search: ApproximateIndex | None = None
    parts: dict[str, PartCosts] | None = None
    vectors_fingerprint: str | None = None

    def as_part(self) -> PartCosts:
        """What the row adds to the costs of a refinement that is made of it."""
        return PartCosts(**{name: getattr(self, name) for name in PartCosts.model_fields})


class TrainingLabels(_Record):
    """The labels that a row was trained with.

    labelled_photos: with a label that it may see, those held out included; labels: how many labels the photos
    have that its weights were trained on; in_test: which of these are labels of queries, too, sorted.
    """

    labelled_photos: int
    labels: int
    in_test: tuple[str, ...]


class RowMetrics(_Record):
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
    edits: dict[str, EditedCopies] = {}
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
