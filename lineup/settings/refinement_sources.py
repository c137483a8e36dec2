"""Whether every refinement can be made of the rows that it names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

from lineup.errors import suggest
from lineup.settings.refinement import RefinementSettings


def check(models: Collection[str], refinements: Mapping[str, RefinementSettings]) -> None:
    """Checks that every refinement can be made, in some order, of rows that hand on what it needs.

    Raises:
        ValueError: one cannot; the message names the setting, the fault and the fix.
    """
    for row in refinements:
        if row in models:
            raise ValueError(f"refinements.{row} is also a row of models; rename one")
    for row, settings in refinements.items():
        for key, other in (("from", settings.first), ("with", settings.second)):
            if other not in models and other not in refinements:
                raise ValueError(
                    f"refinements.{row}.{key} is {other!r}{suggest(other, {*models, *refinements} - {row})}"
                )
    _check_cycles({row: (settings.first, settings.second) for row, settings in refinements.items()})
    for row, settings in refinements.items():
        _check_vectors(row, settings, refinements)


def _check_cycles(sources: Mapping[str, tuple[str, str]]) -> None:
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        rows = error.args[1][:0:-1]  # each is made of the next, the last of the first
        start = rows.index(next(row for row in sources if row in rows))
        cycle = [*rows[start:], *rows[: start + 1]]
        raise ValueError(
            f"refinements.{cycle[0]} is made of itself ({' -> '.join(cycle)}); a row can only be made "
            "of rows that do not need it"
        ) from None


def _check_vectors(
    row: str, settings: RefinementSettings, refinements: Mapping[str, RefinementSettings]
) -> None:
    if settings.one_row and settings.first != settings.second:
        raise ValueError(f"refinements.{row}: {settings.method} is of one row; set with: {settings.first}")
    other = refinements.get(settings.second)
    if settings.needs_vectors and other is not None and not other.makes_vectors:
        raise ValueError(
            f"refinements.{row}.with is {settings.second!r}, a {other.method}, which has no vectors for "
            f"{settings.method}; name a model or a refinement that makes vectors, perhaps {other.second!r}"
        )
