"""Which requests a page's server refuses, and how it reports errors: {"error": a sentence} and a status."""

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
from lineup.photos.image_opening import BadImage

# The page runs and loads this server's own files only; blob: is the picture that the user chose.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that is refused; the sentence gives the reason."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """Lets only requests through that are meant for this server, and adds security headers to all responses.

    A page of another site can do nothing here. By DNS rebinding it may reach this server, but then under a
    name that is not among `names`; any IP address is accepted, as it cannot be rebound. Moreover,
    browsers state in a request's headers which site it comes from.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], name_option: bool = False) -> None:
        """names: by which browsers know this server, in lower case. name_option: whether --name adds one."""
        self._app, self._names, self._name_option = app, names, name_option

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it; every response gets the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        fault = self._fault(Headers(scope=scope), scope["path"]) if scope["type"] == "http" else None
        await (fault or self._app)(scope, receive, send_with_headers)

    def _fault(self, headers: Headers, path: str) -> JSONResponse | None:
        named = headers.get("host", "")
        host = _hostname(named)
        if not host:
            return _error(400, "the Host header names no host")
        if host not in self._names and not _is_ip_address(host):
            option = f", or start it with --name {host}" if self._name_option else ""
            return _error(400, f"this server is not known as {host!r}; use its IP address{option}")
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and path != "/"
        origin = headers.get("origin")
        if foreign or (origin is not None and origin.partition("://")[2] != named):
            return _error(403, "this request comes from a page of another site, which may do nothing here")
        return None


def _hostname(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case; empty if there is none."""
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


def report_errors(app: FastAPI) -> None:
    """Turns what the app raises into responses."""
    app.add_exception_handler(Refusal, lambda _, error: _error(error.status, str(error)))  # type: ignore[attr-defined]
    # Nobody reads this response.
    app.add_exception_handler(ClientDisconnect, lambda _, error: _error(408, "the client left"))
    app.add_exception_handler(BadImage, lambda _, error: _error(415, f"this picture {error}"))
    app.add_exception_handler(UserError, lambda _, error: _error(409, str(error)))
    app.add_exception_handler(RequestValidationError, lambda _, error: _error(400, _first_fault(error)))  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(
        Exception, lambda _, error: _error(500, "the server failed; its terminal shows why")
    )


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail).lower())


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    return f"{fault['loc'][-1]}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
