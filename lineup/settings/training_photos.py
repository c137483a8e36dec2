"""Whether there are photos enough for a row to train on: told from counts alone, before anything is fetched
or torch is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lineup import paths
from lineup.errors import UserError
from lineup.settings.training import Needs, NoObjective, Objective, Train, settings_of

_LEAST_HELD_OUT = 2  # labels
Counts = Mapping[str | None, int]  # images of each label; None: of no label


def check_rows(objectives: Mapping[str, Objective], defaults: Train, counts: Counts) -> None:
    """UserError if some row can't be trained on these photos; it names the fault of the first one, and the
    others.

    objectives: of each row of params.yaml; defaults: its section `train`.
    """
    faults: dict[str, str] = {}
    for row, objective in objectives.items():
        try:
            if not isinstance(objective, NoObjective):
                check(objective.needs, settings_of(defaults, objective), counts)
        except UserError as error:
            faults[row] = str(error)
    if faults:
        row, *others = faults
        also = f" ({', '.join(others)} can't be trained either)" if others else ""
        raise UserError(f"{paths.PARAMS}: models.{row}.objective: {faults[row]}{also}")


def check(needs: Needs, settings: Train, counts: Counts) -> None:
    """UserError if too little is left to train on, once some is held out for validation."""
    if not any(counts.values()):
        raise UserError(
            f"there is no image to train on; put some into {paths.RAW / 'train'}/<label>/, or set the row's objective to none"
        )
    if needs.labels:
        _check_labels(needs, settings, {label: count for label, count in counts.items() if label is not None})
        return
    count = sum(counts.values())
    left = count - held_out_images(count, settings)
    if settings.batch_size > left:
        fix = f"set it to {left} or less" if left > 1 else "add some"
        raise UserError(
            f"batch_size is {settings.batch_size}, but there are {left} images to train on; {fix}"
        )


def _check_labels(needs: Needs, settings: Train, counts: Mapping[str, int]) -> None:
    if not counts:
        raise UserError(
            "this objective needs labels, and no training image has one; use data/raw/train/<label>/ folders, or simclr"
        )
    single = sorted(label for label, count in counts.items() if count == 1)
    if needs.pairs and single and settings.on_single_image == "fail":
        raise UserError(
            f"{len(single)} of {len(counts)} labels have one image (such as {single[0]!r}), which makes no pair; "
            "add images, or say on_single_image: skip"
        )
    several = len(counts) - len(single)
    usable = several if needs.pairs else len(counts)
    held = held_out_labels(several, usable, settings)
    if usable - held < settings.labels_per_batch:
        fault = (
            f"labels_per_batch is {settings.labels_per_batch}, but there {_labels(usable - held)} to train on"
        )
        fault += f" ({held} more validate)" if held else ""
        most, without = usable - held, ""
        if not held and min(several, usable - _LEAST_HELD_OUT) >= _LEAST_HELD_OUT:
            most, without = usable - _LEAST_HELD_OUT, f" (up to {usable} without validation)"
        raise UserError(
            f"{fault}; {f'set it to {most} or less{without}, or add labels' if most > 1 else 'add labels'}"
        )


def _labels(count: int) -> str:
    return "is 1 label" if count == 1 else f"are {count} labels"


def held_out_labels(several: int, usable: int, settings: Train) -> int:
    """How many labels validate: the share that is set, but two at least, or none where they would be missed
    in training.

    One label's images have no others to be confused with: they find each other whatever the network has
    learned.
    several: labels with more than one image, as one image can't find another; usable: labels that can be
        trained on.
    """
    wanted = math.ceil(settings.validation_share * several)
    if wanted >= _LEAST_HELD_OUT:
        return wanted
    left = usable - _LEAST_HELD_OUT
    return _LEAST_HELD_OUT if several >= _LEAST_HELD_OUT and left >= settings.labels_per_batch else 0


def held_out_images(count: int, settings: Train) -> int:
    """How many images validate where labels are not used."""
    return math.ceil(settings.validation_share * count)
