"""Whether there are enough photos to train a row.

The number of images of each label is enough to tell, so that a fault shows before anything is fetched and
before torch is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lineup import paths
from lineup.errors import UserError
from lineup.settings.objective import NoObjective, Objective
from lineup.settings.trained_objectives import Needs
from lineup.settings.training import Train, settings_of

Counts = Mapping[str | None, int]  # images of each label; under None, images without a label

# The images of a single label have no others to be confused with: they find each other whatever the network
# has learned.
_MIN_HELD_OUT_LABELS = 2


def check_rows(objectives: Mapping[str, Objective], defaults: Train, counts: Counts) -> None:
    """Checks that every row can be trained on these photos.

    Args:
        objectives: of each row of params.yaml.
        defaults: the section `train` of params.yaml.
        counts: how many images each label has.
    Raises:
        UserError: some rows can't be trained. It gives the fault of the first one, and names the others.
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
    """Checks that enough is left to train on, once some of it is held out for validation.

    Args:
        needs: what a batch must hold.
        settings: the training loop's, for a row.
        counts: how many images each label has.
    Raises:
        UserError: too few images or labels are left.
    """
    if not any(counts.values()):
        raise UserError(
            f"there is no image to train on; put some into {paths.RAW / 'train'}/<label>/, "
            "or set the row's objective to none"
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
            "this objective needs labels, and no training image has one; "
            f"use {paths.RAW / 'train'}/<label>/ folders, or simclr"
        )
    single = sorted(label for label, count in counts.items() if count == 1)
    if needs.pairs and single and settings.on_single_image == "fail":
        raise UserError(
            f"{len(single)} of {len(counts)} labels have one image (such as {single[0]!r}), "
            "which makes no pair; add images, or set on_single_image: skip"
        )
    several = len(counts) - len(single)
    usable = several if needs.pairs else len(counts)
    held = held_out_labels(several, usable, settings)
    if usable - held < settings.labels_per_batch:
        fault = (
            f"labels_per_batch is {settings.labels_per_batch}, but there {_labels(usable - held)} to train on"
        )
        fault += f" ({held} more validate)" if held else ""
        most, without_validation = usable - held, ""
        if not held and min(several, usable - _MIN_HELD_OUT_LABELS) >= _MIN_HELD_OUT_LABELS:
            most = usable - _MIN_HELD_OUT_LABELS
            without_validation = f" (up to {usable} without validation)"
        lower = f"set it to {most} or less{without_validation}, or " if most > 1 else ""
        raise UserError(f"{fault}; {lower}add labels")


def _labels(count: int) -> str:
    return "is 1 label" if count == 1 else f"are {count} labels"


def held_out_labels(several: int, usable: int, settings: Train) -> int:
    """How many labels are held out: the share that is set, but at least two.

    None are held out where two would be missed: too few labels would be left to fill a batch.

    Args:
        several: how many labels have more than one image. Only these can be held out: an image of any other
            label has no relevant image.
        usable: how many labels can be trained on.
        settings: the training loop's, for a row.
    """
    wanted = math.ceil(settings.validation_share * several)
    if wanted >= _MIN_HELD_OUT_LABELS:
        return wanted
    left = usable - _MIN_HELD_OUT_LABELS
    return (
        _MIN_HELD_OUT_LABELS if several >= _MIN_HELD_OUT_LABELS and left >= settings.labels_per_batch else 0
    )


def held_out_images(count: int, settings: Train) -> int:
    """How many images are held out where an objective may not know labels."""
    return math.ceil(settings.validation_share * count)
