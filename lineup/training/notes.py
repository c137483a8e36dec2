"""What a reader of the table should know of a training beside its figures."""

from __future__ import annotations

from lineup.settings.training import Train
from lineup.training.checkpoint import Progress

PERFECT = 1.0  # map_at_r that nothing can be better than


def note(progress: Progress, settings: Train, stopped: bool, unvalidated: str | None) -> str | None:
    """None where there is nothing to say.

    stopped: by the clock; unvalidated: why the held-out images tell nothing.
    """
    start, best = progress.score(0), progress.score(progress.best_epoch)
    notes = [_stop(progress, settings)] if stopped else []
    if unvalidated:
        notes.append(f"not validated ({unvalidated})" + ("" if stopped else ", so the last epoch is kept"))
    if start is not None and best is not None and progress.best_epoch > 0 and best <= start:
        notes.append(
            "its start was perfect on held-out labels (map_at_r 1.000) already, so they can't tell whether training helped"
            if best == PERFECT
            else f"no better than its start on held-out labels ({start:.3f}, then {best:.3f})"
        )
    idle, epochs = sum(entry.idle == 1 for entry in progress.log), len(progress.log) - 1
    if idle:
        notes.append(
            f"{idle} of {epochs} epochs taught it nothing: the loss or its gradient was 0 in every step"
        )
    return "; ".join(notes) or None


def _stop(progress: Progress, settings: Train) -> str:
    reached = progress.log[-1].epoch
    if not reached:
        return "stopped by max_minutes before its first step, so it isn't trained"
    return f"stopped by max_minutes at epoch {round(reached, 2):g} of {settings.epochs}, kept epoch {round(progress.best_epoch, 2):g}"
