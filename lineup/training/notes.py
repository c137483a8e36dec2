"""What a training reports: a note for the comparison, and lines of its log.

Nothing here decides a weight, so a change of this file trains nothing again from its start.
"""

from __future__ import annotations

import logging

from lineup.settings.training import Train
from lineup.training.progress import Epoch, Progress
from lineup.training.validation import PERFECT_SCORE, HeldOut

log = logging.getLogger(__name__)


def note(progress: Progress, settings: Train, stopped: bool, held_out_fault: str | None) -> str | None:
    """What a reader of the comparison has to know of a training; None where there is nothing.

    Args:
        progress: how far the training has come.
        settings: the training loop's, for this row.
        stopped: whether the deadline stopped it.
        held_out_fault: why the held-out images can't tell epochs apart; None where they can.
    """
    start, best = progress.score(0), progress.score(progress.best_epoch)
    notes = [_where_it_stopped(progress, settings)] if stopped else []
    if held_out_fault:
        notes.append(f"not validated ({held_out_fault})" + ("" if stopped else ", so the last epoch is kept"))
    if start is not None and best is not None and progress.best_epoch > 0 and best <= start:
        notes.append(
            "its start was perfect on held-out labels (map_at_r 1.000) already, "
            "so they can't tell whether training helped"
            if best == PERFECT_SCORE
            else f"no better than its start on held-out labels ({start:.3f}, then {best:.3f})"
        )
    idle, epochs = sum(epoch.idle == 1 for epoch in progress.log), len(progress.log) - 1
    if idle:
        notes.append(
            f"{idle} of {epochs} epochs taught it nothing: the loss or its gradient was 0 in every step"
        )
    return "; ".join(notes) or None


def _where_it_stopped(progress: Progress, settings: Train) -> str:
    reached, best = progress.log[-1].epoch, progress.best_epoch
    if not reached:
        return "stopped by max_minutes before its first step, so it isn't trained"
    epochs = settings.epochs
    return f"stopped by max_minutes at epoch {round(reached, 2):g} of {epochs}, kept epoch {round(best, 2):g}"


def warn_if_validation_cannot_choose(progress: Progress, settings: Train, held_out: HeldOut) -> None:
    """Warns where the held-out images can't choose the epoch whose weights are kept."""
    fault = held_out.fault
    if fault is None and progress.score(0) == PERFECT_SCORE:
        fault = "the start is perfect already (map_at_r 1.000)"
    without_patience = "" if settings.patience is None else ", and patience doesn't end the training"
    if fault:
        log.warning(
            "held-out images can't tell epochs apart: %s; of equal ones the last is kept%s",
            fault,
            without_patience,
        )
    elif without_patience and not held_out.may_choose:
        log.warning("labels may not choose for this objective: the last epoch is kept%s", without_patience)


def log_epoch(epoch: Epoch) -> None:
    """Logs an epoch's line; a warning where none of its steps taught the network anything."""
    score = "-" if epoch.map_at_r is None else f"{epoch.map_at_r:.4f}"
    parts = [f"map_at_r of held-out labels {score}"]
    if epoch.loss is not None:
        drawn = f"{epoch.drawn:.0%} of the training images drawn ({epoch.drawn_so_far:.0%} so far)"
        parts = [f"loss {epoch.loss:.4f}", *parts, drawn]
    if epoch.idle:
        parts.append(f"{epoch.idle:.0%} of the steps taught nothing (no loss or no gradient)")
    level = logging.WARNING if epoch.idle == 1 else logging.INFO
    log.log(level, "epoch %g: %s, %.0f s", epoch.epoch, ", ".join(parts), epoch.seconds)


def log_images_never_drawn(progress: Progress, count: int, stopped: bool) -> None:
    """Logs how many of the `count` training images no batch held, and which setting would change that."""
    never = round((1 - progress.log[-1].drawn_so_far) * count)
    if never:
        fix = "max_minutes" if stopped else "epochs or images_per_epoch"
        log.info("%d of %d training images were never drawn; raise %s to draw them", never, count, fix)
