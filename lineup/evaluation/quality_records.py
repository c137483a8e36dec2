"""What metrics/rows/<row>.json says of a row's quality, as typed records."""

from __future__ import annotations

from lineup.evaluation.record import Record


class Average(Record):
    """A metric averaged over a row's queries.

    low, high: the mean's 95% interval, None where all queries have one label.
    mean_over_labels: mean of the labels' means, None where there are no labels.
    """

    mean: float
    low: float | None
    high: float | None
    mean_over_labels: float | None


class Range(Record):
    """What a row's mean can be where the relevance of some answers is unknown.

    low: lower end of the 95% interval of the least mean; high: upper end of that of the greatest one.
    """

    least: float
    most: float
    low: float | None
    high: float | None


class Partial(Record):
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


class EditedCopies(Record):
    """Scored queries that are edited copies of gallery photos, by one kind of edit.

    top_1: the share of them whose original, or an exact copy of that, comes first.
    """

    queries: int
    top_1: float


class Rate(Record):
    """A share of searches, 0..1, with its 95% interval, which is None where all queries have one label."""

    value: float
    low: float | None
    high: float | None


class OperatingPoint(Record):
    """A threshold for a row's scores, and its errors on labels that it was not chosen on.

    target: the FPIR that it was chosen for; threshold: the score from which on an answer is given, None if no
    score is high enough.
    """

    target: float
    threshold: float | None
    fpir: Rate
    fnir: Rate


class ScoreHistogram(Record):
    """How many first answers have a score between two bounds: right ones, and those of non-mated searches."""

    bounds: tuple[float, ...]
    right: tuple[int, ...]
    non_mated: tuple[int, ...]


class Identification(Record):
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
