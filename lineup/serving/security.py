"""What the page's server refuses, and how it says so: {"error": a sentence} with the fitting status."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lineup.errors import UserError
from lineup.photos.decoding import BadImage

# Nothing but this server's own files runs or loads in the page; blob: is the picture that the user chose.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that can't be answered, and why, in a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """Lets those requests through to an app that are meant for this server, and locks down what is answered.

    A page of another site can't ask. Its name for this server isn't among `names` (DNS rebinding; an IP
    address can't be rebound, so each is accepted), and its requests say where they come from.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        """names: of this server, as an address may have them, lower case."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_locked_down(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        fault = self._fault(Headers(scope=scope), scope["path"]) if scope["type"] == "http" else None
        await (fault or self._app)(scope, receive, send_locked_down)

    def _fault(self, headers: Headers, path: str) -> JSONResponse | None:
        asked = headers.get("host", "")
        host = _hostname(asked)
        if not host:
            return _told(400, "the Host header names no host")
        if host not in self._names and not _is_ip_address(host):
            return _told(
                400,
                f"this server isn't known as {host!r}; use its IP address, or start it with --name {host}",
            )
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and path != "/"
        origin = headers.get("origin")
        if foreign or (origin is not None and origin.partition("://")[2] != asked):
            return _told(403, "this was asked by a page of another site, which may not search here")
        return None


def _hostname(host: str) -> str:
    """Of a Host header: without port and brackets, in lower case; empty if there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tell_faults(app: FastAPI) -> None:
    """What an app raises becomes an answer."""
    app.add_exception_handler(Refusal, lambda _, error: _told(error.status, str(error)))  # type: ignore[attr-defined]
    app.add_exception_handler(
        ClientDisconnect,
        lambda _, error: _told(408, "the client left"),  # nobody reads it
    )
    app.add_exception_handler(BadImage, lambda _, error: _told(415, f"this picture {error}"))
    app.add_exception_handler(UserError, lambda _, error: _told(409, str(error)))
    app.add_exception_handler(RequestValidationError, lambda _, error: _told(400, _first_fault(error)))  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(
        Exception, lambda _, error: _told(500, "something broke here; the terminal of lineup serve says what")
    )


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _told(error.status_code, str(error.detail).lower())


def _told(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    return f"{fault['loc'][-1]}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
