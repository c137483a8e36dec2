"""The threshold of an exported row, and what is promised of it."""

from __future__ import annotations

from typing import Any

from lineup.evaluation import row_metrics
from lineup.evaluation.quality_records import OperatingPoint, Rate
from lineup.evaluation.thresholds import Threshold

JsonObject = dict[str, Any]


def listed(row: str) -> list[JsonObject]:
    """All thresholds that `score` has chosen for a row, with their errors, as settings.json has them."""
    return [_as_json(point) for point in _points(row)]


def chosen(row: str, asked: Threshold | None) -> JsonObject | None:
    """The threshold that an answer must reach by default: the one asked for, or the first that was chosen.

    None where no rate of false matches could be promised.

    Raises:
        UserError: `score` has chosen none for the rate that was asked for.
    """
    points = _points(row)
    if asked is None:
        return _as_json(points[0]) if points else None
    score = asked.of_row(row)
    if asked.fpir is not None:
        return next(_as_json(point) for point in points if point.target == asked.fpir)
    return {"score": score, "promise": "This score was set by hand, and its errors were not measured."}


def _points(row: str) -> list[OperatingPoint]:
    identified = row_metrics.read(row).identification
    points = identified.operating_points if identified else ()
    return [point for point in points if point.threshold is not None]


def _as_json(point: OperatingPoint) -> JsonObject:
    return {
        "score": point.threshold,
        "target_fpir": point.target,
        "fpir": point.fpir.model_dump(),
        "fnir": point.fnir.model_dump(),
        "promise": (
            f"Of the queries without a match, {_worded(point.fpir)} get an answer that reaches this score; "
            f"of those with a match, {_worded(point.fnir)} get none or a wrong one first. Measured on labels "
            "that the score was not chosen on; the intervals hold for new labels that are like these."
        ),
    }


def _worded(rate: Rate) -> str:
    interval = "" if rate.low is None or rate.high is None else f" ({rate.low:.1%} to {rate.high:.1%})"
    return f"{rate.value:.1%}{interval}"
