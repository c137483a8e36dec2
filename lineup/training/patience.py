"""When a training ends before its last epoch, because it gets no better."""

from __future__ import annotations

from lineup.training.progress import Progress
from lineup.training.validation import PERFECT_SCORE, HeldOut


def out_of_patience(progress: Progress, patience: int | None, held_out: HeldOut) -> bool:
    """Whether too many epochs have passed since the first one with the best score.

    Never where the held-out images may not choose, have no score, or scored perfectly before training.
    """
    scores = [epoch.map_at_r for epoch in progress.log if epoch.map_at_r is not None]
    if patience is None or not held_out.may_choose or not scores or scores[0] == PERFECT_SCORE:
        return False
    trained = scores[1:]
    return len(trained) - 1 - trained.index(max(trained)) >= patience
