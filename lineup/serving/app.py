"""The routes of the search page's server: the page, the gallery's images, and searches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lineup import paths
from lineup.evaluation.thresholds import Threshold
from lineup.photos import prepared_images
from lineup.serving import api, row_pool
from lineup.serving.api import SearchResponse
from lineup.serving.limits import Limits
from lineup.serving.row_pool import RowPool
from lineup.serving.searches import Searches
from lineup.settings.params import Params
from lineup.web.assets import SHARED
from lineup.web.security import Guard, Refusal, report_errors

MAX_TEXT_CHARACTERS = 1_000  # text towers read some 60 to 80 tokens
DEFAULT_RESULTS, MAX_RESULTS = 24, 96
STARTERS = 12  # gallery images that the page offers as first queries

_PAGE = Path(__file__).parent / "page"
# The image behind an id changes only with preprocess.shorter_side_px, so browsers may cache it.
_IMAGE_CACHE_CONTROL = "private, max-age=600"

Depth = Annotated[int, Query(ge=1, le=MAX_RESULTS)]
ImageId = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Query(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


def create(
    params: Params, first: str, names: Collection[str], limits: Limits, threshold: Threshold | None = None
) -> ASGIApp:
    """The server's app.

    Args:
        first: the row that the page opens with. It is loaded at once, any other when it is first searched.
        names: the host names that requests may address; see `security.Guard`.
        threshold: results with a lower score are left out.
    """
    pool = RowPool(params)
    searches = Searches(params, pool, limits, threshold)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lambda _: searches.open(first))
    report_errors(app)
    app.mount("/static", StaticFiles(directory=_PAGE / "static"))
    app.mount("/shared", StaticFiles(directory=SHARED))
    _add_page(app, params, first, pool, limits.picture_bytes)
    _add_searches(app, searches)
    return Guard(app, names, name_option=True)


def _add_page(app: FastAPI, params: Params, first: str, pool: RowPool, max_bytes: int) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("index.html.j2")
    limits = {
        "max_bytes": max_bytes,
        "max_characters": MAX_TEXT_CHARACTERS,
        "default_results": DEFAULT_RESULTS,
        "max_results": MAX_RESULTS,
    }

    @app.get("/")
    def index() -> HTMLResponse:
        photos, rows = pool.photos(), [asdict(info) for info in row_pool.row_infos(params)]
        starters = [asdict(photo) for photo in api.starters(photos, STARTERS)]
        data = {"rows": rows, "first": first, "starters": starters, **limits}
        return HTMLResponse(page.render(data=data, gallery=len(photos.ids)))

    @app.get("/images/{image_id}")
    def image(image_id: str) -> Response:
        known = pool.photos().position(image_id) is not None
        data = prepared_images.read(paths.images("test"), image_id) if known else None
        if data is None:
            raise Refusal(404, "the gallery has no such image")
        headers = {"Cache-Control": _IMAGE_CACHE_CONTROL}
        return Response(data, media_type=prepared_images.media_type(data), headers=headers)


def _add_searches(app: FastAPI, searches: Searches) -> None:
    @app.get("/search/image")
    async def search_image(
        request: Request, row: str, image_id: ImageId, k: Depth = DEFAULT_RESULTS
    ) -> SearchResponse:
        """Searches with one of the gallery's images."""
        return await searches.by_query(request, row, api.gallery_query(image_id), k)

    @app.get("/search/words")
    async def search_words(
        request: Request, row: str, words: Words, k: Depth = DEFAULT_RESULTS
    ) -> SearchResponse:
        return await searches.by_query(request, row, api.text_query(words), k)

    @app.post("/search/photo")
    async def search_photo(request: Request, row: str, k: Depth = DEFAULT_RESULTS) -> SearchResponse:
        return await searches.by_photo(request, row, k)
