"""`lineup show`: the last comparison, as `compare` wrote it."""

from __future__ import annotations

import click

from lineup import paths
from lineup.errors import UserError


@click.command("show")
def command() -> None:
    """Print the last comparison, without computing anything."""
    try:
        click.echo(paths.COMPARISON.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{paths.COMPARISON}: does not exist; run `dvc repro`") from None
