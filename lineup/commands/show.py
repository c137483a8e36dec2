"""`lineup show`: the last comparison, as `compare` wrote it, or what changed in it since a revision."""

from __future__ import annotations

import click

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.storage import files


@click.command("show")
@click.option(
    "--against",
    "revision",
    metavar="REVISION",
    help="Print what changed since a branch, tag, commit or experiment, such as main.",
)
def command(revision: str | None) -> None:
    """Print the last comparison, without computing anything."""
    if revision is not None:
        from lineup.commands import changes  # numpy and pyarrow, which the comparison itself does not need

        click.echo(changes.since(revision))
        return
    try:
        click.echo(paths.COMPARISON.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{paths.COMPARISON}: does not exist; run `dvc repro`") from None
    if paths.METRICS.exists() and (note := row_metrics.note_on_removed_rows(files.read_json(paths.METRICS))):
        click.echo(note, err=True)
