"""What the page's server refuses, and how it says so: {"error": a sentence} with the fitting status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from stages.lib.errors import UserError
from stages.lib.images import BadImage

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")

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


def install(app: FastAPI, hosts: tuple[str, ...]) -> None:
    """hosts: the names under which the page may be asked for; ("*",) is any.

    A page of another site can't ask: its name for this machine isn't among `hosts` (DNS rebinding), and its requests say
    where they come from.
    """
    app.middleware("http")(_guarded)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_exception_handler(Refusal, lambda _, error: _told(error.status, str(error)))  # type: ignore[attr-defined]
    app.add_exception_handler(BadImage, lambda _, error: _told(415, f"this picture {error}"))
    app.add_exception_handler(UserError, lambda _, error: _told(409, str(error)))
    app.add_exception_handler(RequestValidationError, lambda _, error: _told(400, _first_fault(error)))  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, lambda _, error: _told(error.status_code, str(error.detail).lower()))  # type: ignore[attr-defined]
    app.add_exception_handler(Exception, lambda _, error: _told(500, "something broke here; the terminal of stages.serve says what"))


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and request.url.path != "/"
    origin = request.headers.get("origin")
    if foreign or (origin is not None and origin.partition("://")[2] != request.headers.get("host")):
        response: Response = _told(403, "this was asked by a page of another site, which may not search here")
    else:
        response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def body(request: Request, limit: int) -> bytes:
    """A request's body of at most `limit` bytes; no more than that is ever held. Raises Refusal."""
    announced = request.headers.get("content-length", "0")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            pieces.clear()
        else:
            pieces.append(piece)
        # A browser shows an answer only after it has sent all, so a body somewhat too large is read to its end.
        if size > 2 * limit or (announced.isdecimal() and int(announced) > 2 * limit):
            break
    if size > limit or (announced.isdecimal() and int(announced) > limit):
        raise Refusal(413, f"this picture has more than {limit // 2**20} MB; choose a smaller one")
    return b"".join(pieces)


def _told(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    return f"{fault['loc'][-1]}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
