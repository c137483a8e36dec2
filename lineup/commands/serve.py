"""`lineup serve`: the search page, on which the gallery is searched with a photo or a text."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import sys

import click
import uvicorn
from starlette.types import ASGIApp

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import thresholds
from lineup.serving import app, connections, row_pool
from lineup.serving.limits import Limits
from lineup.settings.params import Params

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def choose(params: Params, wanted: str | None) -> str:
    """The row that the page opens with: the wanted one, or the first that is computed here.

    Raises:
        UserError: it is unknown or not computed here, or none is.
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
            f"{paths.PARAMS}: no row of models is computed here; run `dvc repro`, or `dvc pull` "
            f"(of {first.name}, {first.fault})"
        )
    return ready[0]


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. UserError if the address cannot be listened on."""
    if not 0 <= port <= 65_535:  # getaddrinfo would take it modulo 65536
        raise UserError(f"--port {port}: is not a port; use 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        # Without it, the port stays in use for a minute after the server has ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Before anything is loaded, so that an address in use is reported at once.
        listener.listen()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({reason.lower()}); "
            "use another, such as --port 8001"
        ) from None
    return listener


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def url(listener: socket.socket) -> str:
    """The page's address for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def names(host: str, given: list[str], local: bool) -> frozenset[str]:
    """The host names under which the page is known, besides IP addresses, in lower case.

    Raises:
        UserError: a given one is not a host name.
    """
    for name in given:
        if not _NAME.fullmatch(name):
            raise UserError(
                f"--name {name}: is not a host name; use a name without scheme and port, "
                "such as photos.example.org"
            )
    own = () if local else (socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in ("localhost", host, *given, *own))


def server(served: ASGIApp, limits: Limits) -> uvicorn.Server:
    """uvicorn with this page's limits; only the client learns of a refusal, the log does not."""
    config = uvicorn.Config(
        served, log_level=logging.ERROR, access_log=False, server_header=False, proxy_headers=False, ws="none"
    )
    config.http = connections.protocol(limits)
    config.timeout_graceful_shutdown = 3
    return uvicorn.Server(config)


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
        asked.of_row(chosen)  # a row without one is told at once
    with listen(host, port) as listener:
        known_as = names(host, [*host_names], is_local(listener))
        if not is_local(listener):
            print(
                "warning: everyone who reaches this address can search and see the gallery; "
                "there is no password",
                file=sys.stderr,
            )
        limits = Limits()
        served = app.create(params, chosen, known_as, limits, asked)
        print(f"search page: {url(listener)} (Ctrl-C ends it)", flush=True)
        try:
            server(served, limits).run(sockets=[listener])
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
