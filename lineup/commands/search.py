"""`lineup search`: the gallery photos that are nearest to a photo or a text, by one row."""

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
from lineup.evaluation import thresholds
from lineup.photos import decoding, image_opening, pixel_identity, prepared_images
from lineup.serving import gallery_photos, row_search
from lineup.storage import files

log = logging.getLogger(__name__)

# A query that looks like a photo's path rather than a text, even if there is no such file.
_PATH = re.compile(r"(\./|\.\./|~/)\S+|.+\.(heic|heif|jfif|jpe|dng|svg|raw)", re.IGNORECASE)
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")


@dataclass(frozen=True)
class Hit:
    """score: as in the row's ranking; paths: of the photo's files, below data/raw."""

    rank: int
    score: float
    image_id: str
    label: str | None
    paths: list[str]


@dataclass(frozen=True)
class Query:
    """text: what the user typed; photo: the bytes of the photo, if it is a photo's path."""

    text: str
    photo: bytes | None


def read_query(text: str) -> Query:
    """A photo if there is such a file, else a text.

    Raises:
        UserError: the query is empty, or looks like a photo's path, but there is no such file.
    """
    path = _expanded(text)
    if not text.strip():
        raise UserError('the query is empty; type a text ("a slice of pizza") or a photo\'s path')
    try:
        if path.is_file():
            return Query(text, path.read_bytes())
        if path.is_dir():
            raise UserError(f"{text}: is a folder; name one photo in it")
    except OSError as error:  # also raised for a text that is too long for a file's name
        if path.suffix.lower() in _PHOTO_SUFFIXES:
            raise UserError(f"{text}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() in _PHOTO_SUFFIXES or _PATH.fullmatch(text):
        raise UserError(f"{text}: there is no such photo")
    if text != text.encode("utf-8", "ignore").decode():
        raise UserError(f"{text}: is neither a photo's path nor a text in UTF-8")
    return Query(text, None)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # a text such as "~cozy sofa", which is not the name of a user
        return Path(text)


def nearest(row: row_search.Row, query: Query, k: int) -> list[Hit]:
    """The k nearest gallery photos; as in the row's rankings, what counts as the query itself is left out."""
    photo, self_matches = query.photo, list[int]()
    try:
        if photo is not None:
            image_id, pixels_id = (
                hashlib.sha256(photo).hexdigest(),
                pixel_identity.pixels_id(decoding.decode(photo)),
            )
            self_matches = row.photos.self_matches(image_id, pixels_id)
        results = row.nearest(
            lambda encoder: encoder.embed_text(query.text) if photo is None else encoder.embed_image(photo),
            k,
            self_matches,
        )
    except image_opening.BadImage as error:
        raise UserError(f"{query.text} {error}; search with another photo") from None
    if self_matches:
        log.info(
            "left out as this photo itself (relevance.exclude: %s): %s",
            row.photos.exclude,
            _file_names(row, self_matches),
        )
    return [
        Hit(rank, round(result.score, 6), **asdict(result.photo)) for rank, result in enumerate(results, 1)
    ]


def _file_names(row: row_search.Row, positions: Sequence[int]) -> str:
    """The files of some gallery photos, in a phrase that names at most three."""
    names = [printable(path) for position in positions for path in row.photos.photo(position).paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def table(hits: Sequence[Hit]) -> str:
    """The hits as lines of text, one for each."""
    lines = [("rank", "score", "label", "photo")]
    lines += [
        (str(hit.rank), f"{hit.score:.4f}", printable(hit.label or "-"), printable(hit.paths[0]))
        for hit in hits
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in lines)


def sheet(query: Query, row: str, hits: Sequence[Hit]) -> str:
    """The contact sheet's HTML."""
    captions = [f"{hit.rank}. {hit.label or ''} {hit.score:.4f} {hit.paths[0]}" for hit in hits]
    prepared = [prepared_images.read(paths.images("test"), hit.image_id) for hit in hits]
    results = [
        Picture(data, caption) for data, caption in zip(prepared, captions, strict=True) if data is not None
    ]
    text = printable(query.text)
    searched = Picture(query.photo, text) if query.photo is not None else None
    return contact_sheet.page(f"{row}: {text}", searched, results)


@click.command("search")
@click.argument("text", metavar="QUERY")
@click.option("--row", required=True, help="A row of params.yaml.")
@click.option("-k", type=int, default=10, show_default=True, help="How many photos to show.")
@click.option("--threshold", help=thresholds.OPTION_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--open", "in_browser", is_flag=True, help="Show the photos in the browser.")
def command(text: str, row: str, k: int, threshold: str | None, as_json: bool, in_browser: bool) -> None:
    """Find the gallery photos that are nearest to a photo or a text.

    QUERY is a photo's path or, for a row whose encoder has a text tower, a text such as "a slice of pizza".
    """
    params = cli.start_stage("search", exclusive=False)
    cli.check_row(row, params, "all")
    if k < 1:
        raise UserError(f"-k is {k}; set it to 1 or more, the number of photos to show")
    query, asked = read_query(text), thresholds.parse(threshold)
    if asked and query.photo is None:
        asked.check_text()
    least = asked.of_row(row) if asked else None
    ranked = nearest(
        row_search.open_row(row, params, gallery_photos.read(params.relevance.exclude)), query, k
    )
    hits = [hit for hit in ranked if least is None or hit.score >= least]
    content = {"row": row, "query": text, "threshold": least, "hits": [asdict(hit) for hit in hits]}
    if as_json:
        print(json.dumps(content))
    elif hits or least is None:
        print(table(hits))
    else:
        best = f"best {ranked[0].score:.4f}" if ranked else "no image to compare with"
        print(f"no match ({best} < {least:.4f})")
    if in_browser:
        name = hashlib.sha256(f"{row} {text}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        page = paths.CACHE / "searches" / f"{name}.html"
        files.write_text(page, sheet(query, row, hits))
        opened = webbrowser.open(page.resolve().as_uri())
        print(page if opened else f"{page}: open it in a browser; none was found here", file=sys.stderr)
