"""`lineup export ROW --into`: the gallery in a vector database, and what that database finds of it."""

from __future__ import annotations

from lineup.errors import UserError
from lineup.settings.params import Params


def run(row: str, target: str, params: Params, *, check_only: bool, force: bool) -> None:
    """Loads the row's gallery into a database and compares its answers with the exact ones.

    Args:
        target: kind and address, such as "lancedb:FOLDER".
        check_only: asks a collection that is already filled, and writes nothing.
        force: replaces an existing collection.
    Raises:
        UserError: there is no such database, or it cannot be reached.
    """
    raise UserError(f"--into {target}: no database is supported yet; use --to FOLDER")
