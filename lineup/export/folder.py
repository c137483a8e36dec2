"""`lineup export ROW --to`: a folder with all that a service needs of a row, in open formats."""

from __future__ import annotations

from pathlib import Path

from lineup.errors import UserError
from lineup.evaluation.thresholds import Threshold
from lineup.settings.params import Params


def run(row: str, target: Path, params: Params, *, threshold: Threshold | None, force: bool) -> None:
    """Writes the folder, which appears as a whole.

    Args:
        threshold: the score from which on an answer is a match; None for the row's own.
        force: replaces a folder that is no export.
    Raises:
        UserError: the row is not finished or cannot be exported, or the folder cannot be written.
    """
    raise UserError(f"--to {target}: {row} cannot be exported yet")
