"""The log of a training, log.csv in the row's folder: a line per epoch."""

from __future__ import annotations

from collections.abc import Sequence

from lineup.storage import csv_files
from lineup.training.progress import Epoch

COLUMNS = ("epoch", "loss", "map_at_r", "learning_rate", "drawn", "drawn_so_far", "idle")


def csv_text(epochs: Sequence[Epoch]) -> str:
    """The file's content; epoch 0 is the encoder before training, which has no loss.

    It holds no times, so that equal trainings give equal bytes.
    """
    lines = (
        [None if (value := getattr(epoch, name)) is None else f"{value:.6g}" for name in COLUMNS]
        for epoch in epochs
    )
    return csv_files.csv_text(COLUMNS, lines)
