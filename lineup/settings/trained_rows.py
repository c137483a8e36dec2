"""Which rows of params.yaml train, what they start from, and which of them can't on the photos at hand."""

from __future__ import annotations

from collections.abc import Collection

from lineup.errors import UserError
from lineup.settings import label_share, training_photos
from lineup.settings.objective import NoObjective, Objective
from lineup.settings.params import Params
from lineup.settings.training import settings_of
from lineup.settings.training_photos import Counts


def objectives(params: Params) -> dict[str, Objective]:
    """The objective of each row that trains."""
    return {
        row: model.objective
        for row, model in params.models.items()
        if not isinstance(model.objective, NoObjective)
    }


def starts(params: Params) -> dict[str, str | None]:
    """Of each trained row the row that it started from, by preference one with its search and precision."""
    untrained = {row: model for row, model in params.models.items() if model.objective.name == "none"}
    started_from: dict[str, str | None] = {}
    for row, model in params.models.items():
        if row not in untrained:
            same = [other for other in untrained if untrained[other].encoder == model.encoder]
            precision = params.embed_of(row).precision
            same.sort(
                key=lambda other: (
                    untrained[other].search != model.search,
                    params.embed_of(other).precision != precision,
                )
            )
            started_from[row] = next(iter(same), None)
    return started_from


def missing_starts(params: Params) -> dict[str, str]:
    """By trained row in transfer.rows whose start is not measured on the same set: what to do about it."""
    rows, missing = params.transfer.rows, dict[str, str]()
    for row, start in starts(params).items():
        if row not in rows:
            continue
        if start is None:
            missing[row] = "add a row with its encoder and objective: {name: none}, and name it there, too"
        elif rows.get(start) != rows[row]:
            fix = "set" if start in rows else "add"
            missing[row] = f"{fix} `{start}: {rows[row]}` there, the row that {row} started from"
    return missing


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
