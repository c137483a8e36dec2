"""No objective: the encoder is used as it was fetched."""

from __future__ import annotations

from pathlib import Path

from lineup.encoders import model_folder
from lineup.storage import files


def point_to_weights(weights: Path, model: Path, log_header: str) -> None:
    """Writes a model's folder that points to fetched weights, with the log of a training of no epochs.

    Raises:
        UserError: nothing was fetched, or its encoder.json is damaged.
    """
    pointer = model_folder.pointer_to(weights)

    def write(folder: Path) -> None:
        model_folder.write_pointer(folder, pointer)
        files.write_text(folder / "log.csv", log_header)

    files.replace_atomically(model, write)
