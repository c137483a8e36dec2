"""Whether the sections of params.yaml that name rows name rows that exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from lineup.errors import suggest
from lineup.settings.sections import Export, Transfer


def check_near_copies(rows: Sequence[str], models: Collection[str]) -> None:
    """Raises ValueError unless the rows are models, each named once."""
    for position, row in enumerate(rows):
        if row not in models:
            raise ValueError(
                f"near_copies.rows names {row!r}, which is not a row of models{suggest(row, models)}"
            )
        if row in rows[:position]:
            raise ValueError(f"near_copies.rows names {row!r} twice; remove one")


def check_map(rows: Iterable[str], models: Collection[str]) -> None:
    """Raises ValueError unless the rows are models."""
    for row in rows:
        if row not in models:
            raise ValueError(f"map names {row!r}, which is not a row of models{suggest(row, models)}")


def check_transfer(transfer: Transfer, models: Collection[str], refinements: Collection[str]) -> None:
    """Raises ValueError unless the rows are models, and their sets are among those of the section."""
    for row, name in transfer.rows.items():
        if row in refinements:
            raise ValueError(
                f"transfer.rows names {row!r}, which is a refinement, and only models are measured on a "
                "second test set; name the rows that it is made of"
            )
        if row not in models:
            raise ValueError(
                f"transfer.rows names {row!r}, which is not a row of models{suggest(row, models)}"
            )
        if name not in transfer.sets:
            fix = (
                suggest(name, transfer.sets)
                if transfer.sets
                else "; name its folder there, as `{outside: data/outside}`"
            )
            raise ValueError(f"transfer.rows.{row} is {name!r}, which transfer.sets lacks{fix}")


def check_export(export: Export, rows: Collection[str]) -> None:
    """Raises ValueError if the section names no row, or one that is not among these."""
    if export.row is None and "row" in export.model_fields_set:
        raise ValueError("export.row is empty; name a row, or set export to {}")
    if export.row is not None and export.row not in rows:
        raise ValueError(f"export.row names {export.row!r}, which is not a row{suggest(export.row, rows)}")
