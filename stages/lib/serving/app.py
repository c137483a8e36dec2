"""What the search page's server answers: the page, the gallery's pictures, and searches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from stages.lib import paths, pictures
from stages.lib.errors import nearest
from stages.lib.params import Params
from stages.lib.serving import answers, guard, rooms
from stages.lib.serving.guard import Refusal

MAX_BYTES = 50 * 2**20
MAX_CHARACTERS = 1_000  # text towers read some 60 to 80 tokens
SHOWN, MOST_SHOWN = 24, 96
STARTERS = 12  # gallery images to begin with

_PAGE = Path(__file__).parent / "page"
_CACHED = "private, max-age=600"  # what an id's picture looks like changes with preprocess.shorter_side_px only

Depth = Annotated[int, Query(ge=1, le=MOST_SHOWN)]
ImageId = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS)]


def create(params: Params, first: str, names: Collection[str]) -> ASGIApp:
    """first: the row that the page opens with; it is loaded at once, the others when they're asked. names: see `guard.Guard`."""
    opened = rooms.Rooms(params)
    thread = ThreadPoolExecutor(1, "rows")  # one search at a time: each uses all cores, and memory stays bounded

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        thread.submit(answers.warm_up, opened, first)
        yield
        thread.shutdown(cancel_futures=True)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    guard.tell_faults(app)
    app.mount("/static", StaticFiles(directory=_PAGE / "static"))
    _add_page(app, params, first, opened)
    _add_searches(app, params, opened, thread)
    return guard.Guard(app, names)


def _add_page(app: FastAPI, params: Params, first: str, opened: rooms.Rooms) -> None:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template("index.html.j2")
    limits = {"max_bytes": MAX_BYTES, "max_characters": MAX_CHARACTERS, "shown": SHOWN, "most_shown": MOST_SHOWN}

    @app.get("/")
    def index() -> HTMLResponse:
        searched, offers = opened.gallery(), [asdict(row) for row in rooms.offers(params)]
        data = {"rows": offers, "first": first, "starters": answers.starters(searched, STARTERS), **limits}
        return HTMLResponse(page.render(data=data, gallery=len(searched.ids)))

    @app.get("/images/{image_id}")
    def picture(image_id: str) -> Response:
        known = opened.gallery().position(image_id) is not None
        data = pictures.read(paths.images("test"), image_id) if known else None
        if data is None:
            raise Refusal(404, "the gallery has no such image")
        return Response(data, media_type=pictures.media_type(data), headers={"Cache-Control": _CACHED})


def _add_searches(app: FastAPI, params: Params, opened: rooms.Rooms, thread: ThreadPoolExecutor) -> None:
    async def run(model: str, question: answers.Question, k: int) -> Any:
        rows = {*params.models, *params.refinements}
        if model not in rows:
            raise Refusal(404, f"{paths.PARAMS}: models.{model} is unknown{nearest(model, rows)}")
        work = asyncio.get_running_loop().run_in_executor(thread, lambda: answers.answer(opened.row(model), question, k))
        return await work

    @app.get("/search/image")
    async def search_image(model: str, image_id: ImageId, k: Depth = SHOWN) -> Any:
        """From one of the gallery's own images."""
        return await run(model, answers.own_image(image_id), k)

    @app.get("/search/words")
    async def search_words(model: str, words: Words, k: Depth = SHOWN) -> Any:
        return await run(model, answers.words(words), k)

    @app.post("/search/photo")
    async def search_photo(request: Request, model: str, k: Depth = SHOWN) -> Any:
        """The body is the file; its content says what it is."""
        return await run(model, answers.photo(await guard.body(request, MAX_BYTES)), k)
