"""`lineup export`: a row for production, as a folder in open formats or in a vector database."""

from __future__ import annotations

from pathlib import Path

import click

from lineup import cli
from lineup.errors import UserError
from lineup.evaluation import thresholds


@click.command("export")
@click.argument("row")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--into", "database", metavar="KIND:ADDRESS", help="Vector database to load the gallery into.")
@click.option("--threshold", help=thresholds.OPTION_HELP)
@click.option("--check-only", is_flag=True, help="With --into: query a filled database, and write nothing.")
@click.option(
    "--collection", metavar="NAME", help="With --into: the collection's name, by default the row's."
)
@click.option("--index", multiple=True, metavar="NAME=VALUE", help="With --into: a setting of the index.")
@click.option("--search", multiple=True, metavar="NAME=VALUE", help="With --into: a setting of the search.")
@click.option("--force", is_flag=True, help="Replace the folder or the collection if it exists.")
def command(
    row: str,
    folder: Path | None,
    database: str | None,
    threshold: str | None,
    check_only: bool,
    collection: str | None,
    index: tuple[str, ...],
    search: tuple[str, ...],
    force: bool,
) -> None:
    """Hand a row over to production.

    --to writes a folder with all that a service needs: encoder, index, gallery, settings, a module that
    searches with them, and a self-test. --into loads the gallery into a vector database and compares its
    answers with exact search.
    """
    params = cli.start_stage("export", exclusive=False)
    cli.check_row(row, params, "all")
    if (folder is None) == (database is None):
        raise UserError("export: use either --to FOLDER or --into KIND:ADDRESS")
    if database is None and (check_only or collection or index or search):
        raise UserError(
            "--check-only, --collection, --index and --search: are for a database; use them with "
            "--into KIND:ADDRESS"
        )
    if folder is not None:
        from lineup.export import folder as row_folder  # It imports torch.

        row_folder.run(row, folder, params, threshold=thresholds.parse(threshold), force=force)
    if database is not None:
        if threshold is not None:
            raise UserError("--threshold: a database stores no threshold; use it with --to FOLDER")
        from lineup.export import into  # It imports numpy and FAISS, which --help does not need.

        into.run(row, database, params, into.Options(check_only, force, collection, index, search))
