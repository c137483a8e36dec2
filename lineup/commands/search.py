"""`lineup search`: the gallery's photos that are nearest to a text or to any photo, by one row."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from lineup import cli, paths
from lineup.commands import contact_sheet
from lineup.commands.contact_sheet import Picture
from lineup.errors import UserError, printable
from lineup.photos import decoding, prepared_images
from lineup.serving import gallery_photos, row_search
from lineup.storage import files

log = logging.getLogger(__name__)

_PATH = re.compile(
    r"(\./|\.\./|~/)\S+|.+\.(heic|heif|jfif|jpe|dng|svg|raw)", re.IGNORECASE
)  # rather than a text
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")


@dataclass(frozen=True)
class Hit:
    """score: as in the row's ranking; paths: of the photo, below data/raw."""

    rank: int
    score: float
    image_id: str
    label: str | None
    paths: list[str]


@dataclass(frozen=True)
class Query:
    """A text, or a photo's bytes; shown: as the user wrote it."""

    shown: str
    photo: bytes | None


def read_query(asked: str) -> Query:
    """A photo where there is such a file, else a text.

    UserError for a photo's name without a file, and for no query.
    """
    path = _expanded(asked)
    if not asked.strip():
        raise UserError('the query is empty; say a text ("a slice of pizza") or a photo\'s path')
    try:
        if path.is_file():
            return Query(asked, path.read_bytes())
        if path.is_dir():
            raise UserError(f"{asked}: is a folder; name one photo in it")
    except OSError as error:  # also a text too long for a file's name
        if path.suffix.lower() in _PHOTOS:
            raise UserError(f"{asked}: can't be read ({error.strerror})") from None
    if path.suffix.lower() in _PHOTOS or _PATH.fullmatch(asked):
        raise UserError(f"{asked}: there is no such photo")
    if asked != asked.encode("utf-8", "ignore").decode():
        raise UserError(f"{asked}: is neither a photo's path nor a text in UTF-8")
    return Query(asked, None)


def _expanded(asked: str) -> Path:
    try:
        return Path(asked).expanduser()
    except RuntimeError:  # "~cozy sofa": there is no such user
        return Path(asked)


def nearest(row: row_search.Row, asked: Query, k: int) -> list[Hit]:
    """The k nearest gallery photos.

    A photo whose picture is in the gallery doesn't find itself, as in the row's rankings.
    """
    photo, itself = asked.photo, list[int]()
    try:
        if photo is not None:
            itself = row.searched.itself(
                hashlib.sha256(photo).hexdigest(), decoding.pixels_id(decoding.decode(photo))
            )
        found = row.nearest(
            lambda model: model.of_words(asked.shown) if photo is None else model.of_photo(photo), k, itself
        )
    except decoding.BadImage as error:
        raise UserError(f"{asked.shown} {error}; search with another photo") from None
    if itself:
        log.info(
            "left out as this photo itself (relevance.exclude: %s): %s",
            row.searched.exclude,
            _named(row, itself),
        )
    return [Hit(rank, round(answer.score, 6), **asdict(answer.image)) for rank, answer in enumerate(found, 1)]


def _named(row: row_search.Row, positions: Sequence[int]) -> str:
    """The files of some gallery images, the first few."""
    names = [printable(path) for position in positions for path in row.searched.image(position).paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def table(hits: Sequence[Hit]) -> str:
    lines = [("rank", "score", "label", "photo")]
    lines += [
        (str(hit.rank), f"{hit.score:.4f}", printable(hit.label or "-"), printable(hit.paths[0]))
        for hit in hits
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in lines)


def sheet(asked: Query, model: str, hits: Sequence[Hit]) -> str:
    """The contact sheet's HTML."""
    captions = [f"{hit.rank}. {hit.label or ''} {hit.score:.4f} {hit.paths[0]}" for hit in hits]
    prepared = [prepared_images.read(paths.images("test"), hit.image_id) for hit in hits]
    found = [
        Picture(data, caption) for data, caption in zip(prepared, captions, strict=True) if data is not None
    ]
    shown = printable(asked.shown)
    return contact_sheet.page(
        f"{model}: {shown}", Picture(asked.photo, shown) if asked.photo is not None else None, found
    )


@click.command("search")
@click.argument("query")
@click.option("--row", required=True, help="A row of params.yaml.")
@click.option("-k", type=int, default=10, show_default=True, help="How many photos to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--open", "in_browser", is_flag=True, help="Show the photos in the browser.")
def command(query: str, row: str, k: int, as_json: bool, in_browser: bool) -> None:
    """Find the gallery photos that are nearest to a photo or a text.

    QUERY is a photo's path or, for a row whose encoder has a text tower, a text such as "a slice of pizza".
    """
    params = cli.start_stage("search", exclusive=False)
    cli.check_row(row, params, "all")
    if k < 1:
        raise UserError(f"-k is {k}; set it to 1 or more, how many photos to show")
    asked = read_query(query)
    hits = nearest(row_search.open_row(row, params, gallery_photos.read(params.relevance.exclude)), asked, k)
    print(
        json.dumps({"row": row, "query": asked.shown, "hits": [asdict(hit) for hit in hits]})
        if as_json
        else table(hits)
    )
    if in_browser:
        name = hashlib.sha256(f"{row} {asked.shown}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        page = paths.CACHE / "searches" / f"{name}.html"
        files.write_text(page, sheet(asked, row, hits))
        shown = webbrowser.open(page.resolve().as_uri())
        print(page if shown else f"{page}: open it in a browser; none was found here", file=sys.stderr)
