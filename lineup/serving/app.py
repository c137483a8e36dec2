"""What the search page's server answers: the page, the gallery's pictures, and searches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lineup import paths
from lineup.photos import prepared_images
from lineup.serving import api, row_pool
from lineup.serving.limits import Limits
from lineup.serving.searches import Searches
from lineup.serving.security import Guard, Refusal, tell_faults
from lineup.settings.params import Params

MAX_CHARACTERS = 1_000  # text towers read some 60 to 80 tokens
SHOWN, MOST_SHOWN = 24, 96
STARTERS = 12  # gallery images to begin with

_PAGE = Path(__file__).parent / "page"
_CACHED = (
    "private, max-age=600"  # what an id's picture looks like changes with preprocess.shorter_side_px only
)

Depth = Annotated[int, Query(ge=1, le=MOST_SHOWN)]
ImageId = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS)]


def create(params: Params, first: str, names: Collection[str], limits: Limits) -> ASGIApp:
    """first: the row that the page opens with.

    It is loaded at once, the others when they're asked. names: see `guard.Guard`.
    """
    opened = row_pool.Rooms(params)
    searches = Searches(params, opened, limits)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lambda _: searches.open(first))
    tell_faults(app)
    app.mount("/static", StaticFiles(directory=_PAGE / "static"))
    _add_page(app, params, first, opened, limits.picture_bytes)
    _add_searches(app, searches)
    return Guard(app, names)


def _add_page(app: FastAPI, params: Params, first: str, opened: row_pool.Rooms, max_bytes: int) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("index.html.j2")
    limits = {
        "max_bytes": max_bytes,
        "max_characters": MAX_CHARACTERS,
        "shown": SHOWN,
        "most_shown": MOST_SHOWN,
    }

    @app.get("/")
    def index() -> HTMLResponse:
        searched, offers = opened.gallery(), [asdict(row) for row in row_pool.offers(params)]
        data = {"rows": offers, "first": first, "starters": api.starters(searched, STARTERS), **limits}
        return HTMLResponse(page.render(data=data, gallery=len(searched.ids)))

    @app.get("/images/{image_id}")
    def picture(image_id: str) -> Response:
        known = opened.gallery().position(image_id) is not None
        data = prepared_images.read(paths.images("test"), image_id) if known else None
        if data is None:
            raise Refusal(404, "the gallery has no such image")
        return Response(data, media_type=prepared_images.media_type(data), headers={"Cache-Control": _CACHED})


def _add_searches(app: FastAPI, searches: Searches) -> None:
    @app.get("/search/image")
    async def search_image(request: Request, model: str, image_id: ImageId, k: Depth = SHOWN) -> Any:
        """From one of the gallery's own images."""
        return await searches.by_question(request, model, api.own_image(image_id), k)

    @app.get("/search/words")
    async def search_words(request: Request, model: str, words: Words, k: Depth = SHOWN) -> Any:
        return await searches.by_question(request, model, api.words(words), k)

    @app.post("/search/photo")
    async def search_photo(request: Request, model: str, k: Depth = SHOWN) -> Any:
        return await searches.by_photo(request, model, k)
