"""The score from which on an answer counts as a match, as a command's option --threshold gives it.

It is a score, or the FPIR that a row's own threshold was chosen for: "fpir=0.01".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import row_metrics

OPTION_HELP = "Score from which on an answer is a match, or fpir=0.01 for the row's own.  [default: none]"
_FPIR = "fpir="
_USE_A_SCORE = "use a score, such as --threshold 0.5"


@dataclass(frozen=True)
class Threshold:
    """score: the same for every row; fpir: each row has its own score for it. One of them is None."""

    score: float | None = None
    fpir: float | None = None

    def of_row(self, row: str) -> float:
        """The score for a row.

        Raises:
            UserError: `score` has found none for this FPIR.
        """
        if self.score is not None:
            return self.score
        metrics = row_metrics.read(row)
        identified = metrics.identification
        file = paths.row_metrics(row)
        if identified is None:
            why = "some answers were not judged" if metrics.is_partly_judged else "nothing could be scored"
            raise UserError(f"{file}: {why}, so the row has no threshold; {_USE_A_SCORE}")
        scores = {point.target: point.threshold for point in identified.operating_points}
        if self.fpir in identified.unsupported:
            raise UserError(
                f"{file}: {identified.non_mated:,} queries without a match are too few for an FPIR of "
                f"{self.fpir:g}; {_USE_A_SCORE}"
            )
        if self.fpir not in scores:
            known = ", ".join(f"{_FPIR}{target:g}" for target in scores) or "none"
            raise UserError(
                f"{file}: has no threshold for an FPIR of {self.fpir:g} (known: {known}); "
                f"add it to score.fpir in {paths.PARAMS} and run `dvc repro`"
            )
        score = scores[self.fpir]
        if score is None:
            raise UserError(f"{file}: no score of this row is high enough for an FPIR of {self.fpir:g}")
        return score

    def check_text(self) -> None:
        """UserError if the threshold holds for photos only, but the query is a text."""
        if self.fpir is not None:
            raise UserError(
                f"--threshold {_FPIR}{self.fpir:g}: was chosen on photos, and texts have other scores; "
                "leave it out, or use a score"
            )


def parse(option: str | None) -> Threshold | None:
    """The threshold that an option gives; None if it was not used.

    Raises:
        UserError: it is neither a number nor an FPIR.
    """
    if option is None:
        return None
    is_fpir, text = option.startswith(_FPIR), option.removeprefix(_FPIR)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not math.isfinite(number) or (is_fpir and not 0 < number < 1):
        raise UserError(
            f"--threshold {option}: is neither a score nor an FPIR; use a number such as 0.5, or fpir=0.01"
        )
    return Threshold(fpir=number) if is_fpir else Threshold(score=number)
