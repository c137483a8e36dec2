"""What `score` writes of a row's identification: whether scores tell queries with a match from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lineup.evaluation import identification, precision_recall, significance
from lineup.evaluation.quality_records import Identification, OperatingPoint, Rate, ScoreHistogram
from lineup.evaluation.rounding import DECIMALS, rounded
from lineup.evaluation.scoring import Scores
from lineup.relevance.relevance import Relevance


def identify(
    scores: Scores,
    similarities: npt.NDArray[np.float32],
    relevance: Relevance,
    fpir: Sequence[float],
    samples: int,
    seed: int,
) -> Identification | None:
    """How well the scores of first answers tell queries with a match from others.

    Args:
        similarities: float32 [Q, K], the rankings' scores, NaN behind a ranking's end.
        fpir: the rates for which a threshold is chosen.
    Returns:
        None if no query has a relevant image, or the relevance of some pairs is unknown: nobody can tell then
        which queries have no match.
    """
    if not (scores.num_relevant > 0).any() or (scores.unknown and scores.unknown.judged_at):
        return None
    given = identification.searches(
        similarities[:, 0].astype(np.float64),
        scores.first_hit,
        scores.wrong_score(similarities),
        scores.num_relevant,
        relevance.is_known(),
        significance.cluster_codes(relevance.query_labels),
    )
    supported = [target for target in fpir if identification.is_supported(given, target)]
    micro, recall = precision_recall.ranked_figures(given, samples, seed)
    points = identification.operating_points(given, supported, seed)
    targets = identification.curve_targets(given)
    bounds, right, non_mated = identification.histograms(given)
    return Identification(
        mated=int(given.mated.sum()),
        non_mated=int((~given.mated).sum()),
        stand_ins=given.stand_ins,
        micro_average_precision=_rate(micro),
        recall_at_precision_90=_rate(recall),
        operating_points=tuple(
            OperatingPoint(
                target=point.target,
                threshold=_rounded_down(point.threshold),
                fpir=_rate(point.fpir),
                fnir=_rate(point.fnir),
            )
            for point in points
        ),
        unsupported=tuple(target for target in fpir if target not in supported),
        curve=tuple(
            (round(float(target), DECIMALS), round(float(fnir), DECIMALS))
            for target, fnir in zip(targets, identification.error_curve(given, targets), strict=True)
        ),
        histogram=ScoreHistogram(
            bounds=tuple(round(float(bound), DECIMALS) for bound in bounds),
            right=tuple(map(int, right)),
            non_mated=tuple(map(int, non_mated)),
        ),
    )


def _rate(interval: identification.Interval) -> Rate:
    return Rate(value=round(interval.value, DECIMALS), low=rounded(interval.low), high=rounded(interval.high))


def _rounded_down(threshold: float) -> float | None:
    """So that the score that it was chosen at still reaches it."""
    unit = 10**DECIMALS
    return float(np.floor(threshold * unit) / unit) if np.isfinite(threshold) else None
