"""search: the gallery's photos that are nearest to a text or to any photo, for one row. Not a stage of dvc.yaml."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.lib import cli, contact_sheet, images, paths, pictures, query, searched_gallery, tables
from stages.lib.contact_sheet import Picture
from stages.lib.errors import UserError, printable

_PATH = re.compile(r"(\./|\.\./|~/)\S+|.+\.(heic|heif|jfif|jpe|dng|svg|raw)", re.IGNORECASE)  # rather than a text
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
    """A photo where there is such a file, else a text. UserError for a photo's name without a file, and for no query."""
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


def nearest(row: query.Row, asked: Query, k: int) -> list[Hit]:
    """The k nearest gallery photos; a photo whose picture is in the gallery doesn't find itself, as in the row's rankings."""
    photo, itself = asked.photo, list[int]()
    try:
        if photo is not None:
            itself = row.searched.itself(hashlib.sha256(photo).hexdigest(), images.pixels_id(images.decode(photo)))
        found = row.nearest(lambda model: model.of_words(asked.shown) if photo is None else model.of_photo(photo), k, itself)
    except images.BadImage as error:
        raise UserError(f"{asked.shown} {error}; search with another photo") from None
    if itself:
        cli.log.info("left out as this photo itself (relevance.exclude: %s): %s", row.searched.exclude, _named(row, itself))
    return [Hit(rank, round(answer.score, 6), **asdict(answer.image)) for rank, answer in enumerate(found, 1)]


def _named(row: query.Row, positions: Sequence[int]) -> str:
    """The files of some gallery images, the first few."""
    names = [printable(path) for position in positions for path in row.searched.image(position).paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def table(hits: Sequence[Hit]) -> str:
    lines = [("rank", "score", "label", "photo")]
    lines += [(str(hit.rank), f"{hit.score:.4f}", printable(hit.label or "-"), printable(hit.paths[0])) for hit in hits]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in lines)


def sheet(asked: Query, model: str, hits: Sequence[Hit]) -> str:
    """The contact sheet's HTML."""
    captions = [f"{hit.rank}. {hit.label or ''} {hit.score:.4f} {hit.paths[0]}" for hit in hits]
    prepared = [pictures.read(paths.images("test"), hit.image_id) for hit in hits]
    found = [Picture(data, caption) for data, caption in zip(prepared, captions, strict=True) if data is not None]
    shown = printable(asked.shown)
    return contact_sheet.page(f"{model}: {shown}", Picture(asked.photo, shown) if asked.photo is not None else None, found)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.search", description=__doc__)
    parser.add_argument("query", help='a text ("a slice of pizza") or a photo\'s path')
    parser.add_argument("--model", required=True, help="a row of params.yaml")
    parser.add_argument("-k", type=int, default=10, help="photos to show; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--open", action="store_true", help="show the photos in the browser")
    arguments = parser.parse_args(argv)
    params, model = cli.start_whole("search", alone=False), arguments.model
    cli.check_row(model, params, "all")
    if arguments.k < 1:
        raise UserError(f"-k is {arguments.k}; say how many photos to show, 1 or more")
    asked = read_query(arguments.query)
    hits = nearest(query.open_row(model, params, searched_gallery.read(params.relevance.exclude)), asked, arguments.k)
    print(json.dumps({"model": model, "query": asked.shown, "hits": [asdict(hit) for hit in hits]}) if arguments.json else table(hits))
    if arguments.open:
        name = hashlib.sha256(f"{model} {asked.shown}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        page = paths.CACHE / "searches" / f"{name}.html"
        tables.write_text(page, sheet(asked, model, hits))
        shown = webbrowser.open(page.resolve().as_uri())
        print(page if shown else f"{page}: open it in a browser; none was found here", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
