"""How far a training has come: its log, its times and its best epoch.

This file imports no torch, nor do costs.py and log_file.py: a row that is not trained need not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """A line of a training's log.

    Args:
        epoch: its number. 0 is the encoder before training, 2.4 the third epoch, cut short by the deadline.
        loss: the mean over the steps; None before training.
        map_at_r: the score of the held-out images, 0..1; None where they have none.
        learning_rate: that of the last step, for weights that are new.
        drawn: the share of the training images that the epoch's batches held.
        drawn_so_far: the share that the batches of all epochs held, up to and with this one.
        idle: the share of the steps whose loss or gradient was 0.
        seconds: how long the epoch took.
    """

    epoch: float
    loss: float | None
    map_at_r: float | None
    learning_rate: float
    drawn: float
    drawn_so_far: float
    idle: float
    seconds: float


@dataclass
class Progress:
    """How far a training has come.

    Args:
        epoch: the last epoch that was trained to its end.
        seconds: how long the training has run, over all its interruptions.
        images: the images that its steps have held, each view counted.
        training_seconds: how long those steps took.
        best_epoch: the epoch whose weights are kept; 2.4 is the third one, cut short by the deadline.
        finished: whether all epochs are trained, or the patience has run out.
        scaler: the state dict of the gradients' scaler; empty unless the training computes in float16.
        log: the encoder before training, then each epoch.
    """

    epoch: int = 0
    seconds: float = 0.0
    images: int = 0
    training_seconds: float = 0.0
    best_epoch: float = 0
    finished: bool = False
    scaler: dict[str, float] = field(default_factory=dict)
    log: list[Epoch] = field(default_factory=list)

    def score(self, epoch: float) -> float | None:
        """The map_at_r of an epoch of the log; None where it has none."""
        return next((entry.map_at_r for entry in self.log if entry.epoch == epoch), None)


@dataclass(frozen=True)
class Outcome:
    """What a reader of the comparison learns of a training that has ended.

    Args:
        progress: the log, the times, the best epoch.
        note: what a reader has to know; None where there is nothing.
        device: the name of what it was trained on.
    """

    progress: Progress
    note: str | None
    device: str
