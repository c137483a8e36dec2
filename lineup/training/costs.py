"""What a training took: the record of it in data/costs/."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from lineup import machine
from lineup.training.data import Manifest, Parts
from lineup.training.progress import Outcome


@dataclass(frozen=True)
class TrainingCosts:
    """What a training took, over all its interruptions, and a note on it for the comparison.

    Args:
        row: the row's name.
        minutes: how long it ran.
        note: what a reader of the comparison has to know; None where there is nothing.
        epochs: how many it trained to their end.
        best_epoch: the epoch whose weights are kept.
        images_per_second: of its steps, each view of an image counted; None where there was no step.
        peak_memory_mb: the most memory that the process has held.
        device: the name of what it was trained on.
        curve: a record per epoch.
        fingerprint: of all that decides the weights.
        labelled_photos: how many photos had a label that the row may see, those held out included.
        labels: of the photos that the weights were trained on, sorted; of an objective without labels, too.
        finished: False where the deadline stopped it, so that more time would train it further.
    """

    row: str
    minutes: float
    note: str | None
    epochs: int
    best_epoch: float
    images_per_second: float | None
    peak_memory_mb: float
    device: str
    curve: list[dict[str, float | None]]
    fingerprint: str
    labelled_photos: int
    labels: list[str]
    finished: bool


def measured(row: str, outcome: Outcome, fingerprint: str, manifest: Manifest, parts: Parts) -> TrainingCosts:
    """The record of a training that has ended. Values of the curve are rounded to six digits.

    Args:
        row: the row's name.
        outcome: how the training ended.
        fingerprint: of all that decides the weights.
        manifest: the training images, as the row sees them.
        parts: those that it was trained on, and those held out.
    """
    trained = np.unique(manifest.labels[parts.train]).tolist()
    progress = outcome.progress
    curve = [
        {name: value if value is None else float(f"{value:.6g}") for name, value in asdict(epoch).items()}
        for epoch in progress.log
    ]
    return TrainingCosts(
        row=row,
        minutes=round(progress.seconds / 60, 3),
        note=outcome.note,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        images_per_second=round(progress.images / progress.training_seconds, 2)
        if progress.training_seconds
        else None,
        peak_memory_mb=round(machine.peak_memory_mb(), 1),
        device=outcome.device,
        curve=curve,
        fingerprint=fingerprint,
        labelled_photos=int((manifest.labels >= 0).sum()),
        labels=[manifest.names[label] for label in trained if label >= 0],
        finished=progress.finished,
    )
