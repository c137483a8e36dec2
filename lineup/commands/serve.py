"""`lineup serve`: the search page, on which the gallery is searched with a photo or a text."""

from __future__ import annotations

import sys

import click

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import thresholds
from lineup.serving import app, row_pool
from lineup.serving.limits import Limits
from lineup.settings.params import Params
from lineup.web import server


def choose(params: Params, wanted: str | None) -> str:
    """The row that the page opens with: the wanted one, or the first that is computed here.

    Raises:
        UserError: the wanted row is unknown or not computed here, or no row is.
    """
    if wanted is not None:
        cli.check_row(wanted, params, "all")
        row_pool.check(wanted, params)
        return wanted
    infos = row_pool.row_infos(params)
    ready = [info.name for info in infos if info.ready]
    if not ready:
        first = infos[0]
        raise UserError(
            f"{paths.PARAMS}: no row is computed here; run `dvc repro`, or `dvc pull` "
            f"(of {first.name}, {first.fault})"
        )
    return ready[0]


@click.command("serve")
@click.option("--row", help="The row of params.yaml to open with; default: the first that is computed here.")
@click.option("--threshold", help=thresholds.OPTION_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=int, default=8000, show_default=True, help="The port to listen on; 0: any free one."
)
@click.option(
    "--name",
    "host_names",
    multiple=True,
    help="A host name that browsers use for this page, such as photos.example.org, besides IP addresses and "
    "this machine's own names. May be repeated.",
)
def command(
    row: str | None, threshold: str | None, host: str, port: int, host_names: tuple[str, ...]
) -> None:
    """Serve a local page to search the gallery with a photo or a text."""
    params = cli.start_stage("serve", exclusive=False)
    chosen, asked = choose(params, row), thresholds.parse(threshold)
    if asked:
        asked.of_row(chosen)  # A row without a threshold is refused now, not at its first search.
    with server.listen(host, port) as listener:
        known_as = server.names(host, [*host_names], server.is_local(listener))
        if not server.is_local(listener):
            print(
                "warning: everyone who reaches this address can search and see the gallery; "
                "there is no password",
                file=sys.stderr,
            )
        limits = Limits()
        served = app.create(params, chosen, known_as, limits, asked)
        print(f"search page: {server.url(listener)} (Ctrl-C ends it)", flush=True)
        try:
            server.create(served, limits).run(sockets=[listener])
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
