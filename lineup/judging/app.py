"""The routes of the judging page's server: the page, its pictures, screens and judgements."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from lineup import paths
from lineup.errors import sentence
from lineup.judging.photos import Photo, Photos
from lineup.judging.session import Progress, Screen, Session, UnknownPair
from lineup.judging.standing import Standing
from lineup.photos import prepared_images
from lineup.web.assets import SHARED
from lineup.web.security import Guard, Refusal, report_errors

MAX_BODY_BYTES = 2**20
SCREENS_AHEAD = 3  # the present one among them

_PAGE = Path(__file__).parent / "page"
# The image behind an id changes only with preprocess.shorter_side_px, so browsers may cache it.
_IMAGE_CACHE_CONTROL = "private, max-age=600"

_TAB = r"^[0-9a-f-]{3,64}$"
_IMAGE_ID = r"^[0-9a-f]{64}$"
TabName = Annotated[str, Query(pattern=_TAB)]


class MarkedScreen(BaseModel):
    """What the page sends after a screen.

    marks: {gallery_id: relevance}, null where the person can't tell.
    """

    model_config = ConfigDict(extra="forbid")

    tab: Annotated[str, Field(pattern=_TAB)]
    query_id: Annotated[str, Field(pattern=_IMAGE_ID)]
    marks: Annotated[
        dict[Annotated[str, Field(pattern=_IMAGE_ID)], Literal[1, 0, -1] | None], Field(min_length=1)
    ]


class ClosedTab(BaseModel):
    """What the page sends when its tab is closed or loaded again."""

    model_config = ConfigDict(extra="forbid")

    tab: Annotated[str, Field(pattern=_TAB)]


@dataclass(frozen=True)
class ShownScreen:
    """A screen as the page shows it.

    pictures: of the gallery, in the order in which they are shown.
    same_set: see `Screen`.
    """

    query: Photo
    pictures: list[Photo]
    same_set: bool


@dataclass(frozen=True)
class NextScreens:
    """The next screens of a tab, and how far the judging is."""

    screens: list[ShownScreen]
    progress: Progress


@dataclass(frozen=True)
class ShownVerdict:
    """The verdict as the page shows it; empty as long as there is none.

    judged, queries, sentences: see `Verdict`.
    rows: the fields of each `RowEstimate`, the best row first.
    """

    judged: int = 0
    queries: int = 0
    sentences: list[str] = field(default_factory=list)
    rows: list[dict[str, str | float]] = field(default_factory=list)


def create(
    session: Session, photos: Photos, suspects: bool, names: Collection[str], *, disputed: bool = False
) -> ASGIApp:
    """The server's app.

    Args:
        suspects: whether only pairs are asked whose labels are in doubt.
        disputed: whether only pairs are asked on which people differ.
        names: the host names that requests may address; see `security.Guard`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    report_errors(app)
    app.add_exception_handler(OSError, _disk_fault)
    app.mount("/static", StaticFiles(directory=_PAGE / "static"))
    app.mount("/shared", StaticFiles(directory=SHARED))
    _add_page(app, session, photos, suspects, disputed)
    _add_judging(app, session, photos)
    return Guard(app, names)


def _add_page(app: FastAPI, session: Session, photos: Photos, suspects: bool, disputed: bool) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("index.html.j2")
    settings = {
        "judge": session.judge,
        "k": session.pool.k,
        "rows": len(session.pool.rows),
        "suspects": suspects,
        "disputed": disputed,
    }

    @app.get("/")
    def index() -> HTMLResponse:
        first = session.progress().pairs == 0  # the keys are shown then
        return HTMLResponse(page.render(data={**settings, "first": first}))

    @app.get("/images/{image_id}")
    def image(image_id: str) -> Response:
        data = prepared_images.read(paths.images("test"), image_id) if image_id in photos else None
        if data is None:
            raise Refusal(404, "the pool has no such image")
        headers = {"Cache-Control": _IMAGE_CACHE_CONTROL}
        return Response(data, media_type=prepared_images.media_type(data), headers=headers)


def _add_judging(app: FastAPI, session: Session, photos: Photos) -> None:
    standing = Standing(session.pool)

    def next_screens(tab: str) -> NextScreens:
        screens = [_shown(screen, photos) for screen in session.screens(tab, SCREENS_AHEAD)]
        return NextScreens(screens, session.progress())

    @app.get("/screens")
    def screens(tab: TabName) -> NextScreens:
        return next_screens(tab)

    @app.post("/judgements")
    async def judge(request: Request) -> NextScreens:
        screen = await _marked_screen(request)

        def record() -> NextScreens:
            try:
                session.record(screen.query_id, screen.marks)
            except UnknownPair:
                raise Refusal(409, "this screen is not of the present pool; reload the page") from None
            return next_screens(screen.tab)

        return await run_in_threadpool(record)

    @app.post("/left")
    def left(closed: ClosedTab) -> None:
        session.leave(closed.tab)

    @app.get("/verdict")
    def verdict() -> ShownVerdict:
        current = standing.verdict(session.judged())
        if current is None:
            return ShownVerdict()
        rows = [row._asdict() for row in current.rows]
        return ShownVerdict(current.judged, current.queries, current.sentences, rows)


def _disk_fault(_: Request, error: Exception) -> JSONResponse:
    """The sentence on a disk's fault; any other error of the system is a bug, and is printed."""
    if (fault := sentence(error)) is None:
        raise error
    return JSONResponse({"error": fault}, 507)


def _shown(screen: Screen, photos: Photos) -> ShownScreen:
    pictures = [photos.gallery[image] for image in screen.gallery_ids]
    return ShownScreen(photos.queries[screen.query_id], pictures, screen.same_set)


async def _marked_screen(request: Request) -> MarkedScreen:
    """The screen's judgements in a request's body. Raises Refusal or RequestValidationError."""
    # A browser asks before it sends this type for a page of another site.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refusal(415, "judgements are sent as application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"a screen's judgements have at most {MAX_BODY_BYTES:,} bytes")
    try:
        return MarkedScreen.model_validate_json(bytes(body), strict=True)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None
