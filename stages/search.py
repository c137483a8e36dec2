"""search: the gallery's photos that are nearest to a text or to any photo, for one row. Not a stage of dvc.yaml."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from stages.lib import cli, contact_sheet, encoders, gallery, images, inference, paths, search, tables
from stages.lib.contact_sheet import Picture
from stages.lib.errors import UserError
from stages.lib.params import Params

Vectors = npt.NDArray[np.float32]
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")


@dataclass(frozen=True)
class Hit:
    """score: cosine similarity, or minus the squared distance; paths: of the photo, below data/raw."""

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

    @property
    def image_id(self) -> str | None:
        return hashlib.sha256(self.photo).hexdigest() if self.photo is not None else None


def read_query(asked: str) -> Query:
    """A photo where there is such a file, else a text. UserError for a photo's name without a file, and for no query."""
    path = Path(asked).expanduser()
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
    if path.suffix.lower() in _PHOTOS:
        raise UserError(f"{asked}: there is no such photo")
    return Query(asked, None)


def photo_vector(folder: Path, query: Query, params: Params) -> Vectors:
    """float32 [1, D], by the same way as a photo of the collection."""
    assert query.photo is not None and query.image_id is not None
    try:
        data = images.prepare(query.photo, params.preprocess.max_side).replacement or query.photo
    except images.BadImage as error:
        raise UserError(f"{query.shown} {error}; search with another photo") from None
    encoder = encoders.load(folder)
    device = inference.choose_device(params.embed.device)
    return next(inference.run(encoder, [(query.image_id, data)], 1, device, 1)).vectors


def text_vector(folder: Path, text: str, metric: search.Metric) -> Vectors:
    """float32 [1, D], of the encoder's text tower."""
    tower = encoders.load_text(folder)
    if metric != "cosine":
        raise UserError(f"search.metric is {metric}, and texts and photos are alike by their angle only; add a row with metric: cosine")
    with torch.inference_mode():
        return tower.module(tower.tokenize([text])).float().numpy()


def nearest(folder: Path, index_file: Path, metric: search.Metric, vector: Vectors, query: Query, k: int) -> list[Hit]:
    """The k nearest gallery photos; a photo that is in the gallery doesn't find itself."""
    ids = np.array([i for rows in gallery.rows(folder, ["image_id", "split"]) for i in rows.column("image_id").to_pylist()], np.str_)
    index = search.load(index_file, metric, len(ids))
    if vector.shape[1] != index.d:
        raise UserError(f"{index_file}: has {index.d} dimensions and the query {vector.shape[1]}; run `dvc repro`")
    itself = np.flatnonzero(ids == query.image_id) if query.image_id else np.empty(0, np.int64)
    excluded = np.column_stack([np.zeros(len(itself), np.int64), itself])
    prepared = search.prepare(metric, [query.shown], vector, "the query")
    positions, scores = search.nearest(index, prepared, k, excluded)
    manifest = tables.read_table(paths.manifest("test"), columns=["image_id", "split", "label", "paths"])
    rows = manifest.filter(pc.field("split") == "gallery").to_pylist()
    known = {row["image_id"]: row for row in rows}
    found = [(ids[place], score) for place, score in zip(positions[0], scores[0], strict=True) if place >= 0]
    lost = [image_id for image_id, _ in found if image_id not in known]
    if lost:
        raise UserError(f"{folder}: holds other images than {paths.manifest('test')}; run `dvc repro` to embed them again")
    return [
        Hit(rank, round(float(score), 6), str(image_id), known[image_id]["label"], known[image_id]["paths"])
        for rank, (image_id, score) in enumerate(found, 1)
    ]


def table(hits: Sequence[Hit]) -> str:
    lines = [("rank", "score", "label", "photo")]
    lines += [(str(hit.rank), f"{hit.score:.4f}", _printable(hit.label or "-"), _printable(hit.paths[0])) for hit in hits]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in lines)


def _printable(name: str) -> str:
    """A name can't move the cursor or colour the terminal: what isn't printable is shown as its code."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in name)


def sheet(query: Query, model: str, hits: Sequence[Hit]) -> str:
    """The contact sheet's HTML."""
    pictures = _prepared_photos({hit.image_id for hit in hits})
    found = [Picture(pictures[hit.image_id], f"{hit.rank}. {hit.label or ''} {hit.score:.4f} {hit.paths[0]}") for hit in hits]
    asked = Picture(query.photo, query.shown) if query.photo is not None else None
    return contact_sheet.page(f"{model}: {query.shown}", asked, found)


def _prepared_photos(wanted: set[str]) -> dict[str, bytes]:
    return {image.image_id: image.data for image in images.prepared(paths.images("test")) if image.image_id in wanted}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.search", description=__doc__)
    parser.add_argument("query", help='a text ("a slice of pizza") or a photo\'s path')
    parser.add_argument("--model", required=True, help="a row of params.yaml")
    parser.add_argument("-k", type=int, default=10, help="photos to show; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--open", action="store_true", help="show the photos in the browser")
    asked = parser.parse_args(argv)
    params = cli.start_whole("search")
    cli.check_row(asked.model, params, "models")
    if asked.k < 1:
        raise UserError(f"-k is {asked.k}; say how many photos to show, 1 or more")
    query, folder, metric = read_query(asked.query), paths.trained(asked.model), params.models[asked.model].search.metric
    try:
        vector = photo_vector(folder, query, params) if query.photo is not None else text_vector(folder, query.shown, metric)
    except UserError as error:
        raise UserError(f"models.{asked.model}: {error}" if str(error).startswith("search.") else str(error)) from None
    hits = nearest(paths.embeddings(asked.model), paths.index(asked.model), metric, vector, query, asked.k)
    print(json.dumps({"model": asked.model, "query": query.shown, "hits": [asdict(hit) for hit in hits]}) if asked.json else table(hits))
    if asked.open:
        name = hashlib.sha256(f"{asked.model} {query.shown}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        page = paths.CACHE / "searches" / f"{name}.html"
        tables.write_text(page, sheet(query, asked.model, hits))
        shown = webbrowser.open(page.resolve().as_uri())
        print(page if shown else f"{page}: open it in a browser; none was found here", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
