"""Which rows of params.yaml train, and which of them can't on the photos at hand."""

from __future__ import annotations

from collections.abc import Collection

from lineup.errors import UserError
from lineup.settings import label_share, training_photos
from lineup.settings.params import Params
from lineup.settings.training import NoObjective, Objective, settings_of
from lineup.settings.training_photos import Counts


def objectives(params: Params) -> dict[str, Objective]:
    """The objective of each row that trains."""
    return {
        row: model.objective
        for row, model in params.models.items()
        if not isinstance(model.objective, NoObjective)
    }


def faults(params: Params, counts: Counts) -> dict[str, str]:
    """By row that can't be trained, what is missing and the nearest fix.

    Args:
        counts: how many training images each label has.
    """
    missing: dict[str, str] = {}
    for row, objective in objectives(params).items():
        assert not isinstance(objective, NoObjective)
        try:
            seen = label_share.counts(counts, objective.label_share, params.seed)
            training_photos.check(objective.needs, settings_of(params.train, objective), seen)
        except UserError as error:
            missing[row] = str(error)
    return missing


def refinements_of(params: Params, rows: Collection[str]) -> tuple[str, ...]:
    """The refinements that are made of any of these rows, directly or through another refinement."""
    removed = {*rows}
    while more := {
        name
        for name, refinement in params.refinements.items()
        if name not in removed and removed & {refinement.first, refinement.second}
    }:
        removed |= more
    return tuple(name for name in params.refinements if name in removed)
