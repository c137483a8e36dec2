"""Listens on an address and runs an app there."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket

import uvicorn
from starlette.types import ASGIApp

from lineup.errors import UserError
from lineup.web import connections
from lineup.web.limits import ConnectionLimits

_MAX_PORT = 65_535
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def listen(host: str, port: int, host_option: bool = True) -> socket.socket:
    """A bound socket. UserError if the address cannot be listened on; it names the options that gave it."""
    if not 0 <= port <= _MAX_PORT:  # getaddrinfo would take it modulo 65536
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
        named = f"--host {host} --port {port}" if host_option else f"--port {port}"
        other = port + 1 if port < _MAX_PORT else port - 1
        raise UserError(
            f"{named}: cannot listen there ({reason.lower()}); use another, such as --port {other}"
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


def create(served: ASGIApp, limits: ConnectionLimits) -> uvicorn.Server:
    """uvicorn within limits; only the client learns of a refusal, the log does not."""
    config = uvicorn.Config(
        served, log_level=logging.ERROR, access_log=False, server_header=False, proxy_headers=False, ws="none"
    )
    config.http = connections.protocol(limits)
    config.timeout_graceful_shutdown = 3
    return uvicorn.Server(config)
