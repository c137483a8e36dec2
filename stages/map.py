"""map@row: the test photos in two dimensions by a row's vectors, for the rows that `map` names."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, paths
from lineup.errors import UserError
from lineup.report import projection
from lineup.settings.sections import Map
from lineup.storage import embeddings, files, parquet, schemas
from lineup.storage.embeddings import Embeddings

log = logging.getLogger(__name__)


class Photo(NamedTuple):
    """A row of the manifest; a photo that is a query and in the gallery has two."""

    image_id: str
    split: str


def on_map(photos: Iterable[Photo], seed: int) -> list[Photo]:
    """The photos that the map shows, in their order."""
    photos = [*photos]
    queries, gallery = ([p.image_id for p in photos if p.split == split] for split in ("query", "gallery"))
    chosen = projection.sample(queries, gallery, projection.MOST_PHOTOS, seed)
    return [photo for photo in photos if photo.image_id in chosen]


def read_photos(folder: Path) -> Iterator[Photo]:
    for batch in embeddings.read_vectors(folder, ["image_id", "split"]):
        yield from map(Photo, *(batch.column(name).to_pylist() for name in ("image_id", "split")))


def read_vectors(folder: Path, image_ids: set[str]) -> Embeddings:
    """The vectors of some photos, each once. Of a larger gallery, only theirs are in memory."""
    wanted = pc.SetLookupOptions(pa.array(sorted(image_ids), pa.string()))
    ids: list[str] = []
    vectors = []
    for batch in embeddings.read_vectors(folder):
        own = batch.filter(pc.call_function("is_in", [batch.column("image_id")], wanted))
        some_ids, some_vectors = embeddings.ids_and_vectors(own)
        ids += some_ids
        vectors.append(some_vectors)
    unique, first = np.unique(np.array(ids, np.str_), return_index=True)
    return Embeddings(unique, np.concatenate(vectors)[first])


def table(photos: Iterable[Photo], ids: Iterable[str], positions: projection.Floats) -> pa.Table:
    """The rows of schemas.MAP.

    Args:
        photos: on the map.
        ids: str [N], of the photos, each once.
        positions: float32 [N, 2], of the ids.
    """
    at = dict(zip(ids, positions.tolist(), strict=True))
    columns = zip(*sorted((*photo, *at[photo.image_id]) for photo in photos), strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schemas.MAP, strict=True)], schemas.MAP)


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("map", argv)
    projection.check_installed()
    photos = on_map(read_photos(paths.embeddings(row)), params.seed)
    ids = {photo.image_id for photo in photos}
    if len(ids) < projection.FEWEST_PHOTOS:
        raise UserError(
            f"{paths.PARAMS}: map names {row}, but a map takes {projection.FEWEST_PHOTOS} test photos or "
            f"more, and {paths.RAW / 'test'} has {len(ids)}; add photos, or remove map.{row}"
        )
    vectors = read_vectors(paths.embeddings(row), ids)
    neighbours, metric = params.map.get(row, Map()).neighbours, params.models[row].search.metric
    started = time.perf_counter()
    positions = projection.project(vectors.vectors, metric, neighbours, params.seed)
    seconds = time.perf_counter() - started
    places = table(photos, vectors.ids.tolist(), positions)
    parquet.write_table(paths.photo_map(row) / schemas.MAP_FILE, places)
    files.write_json(paths.costs("map", row), {"row": row, "photos": len(ids), "seconds": round(seconds, 1)})
    log.info("%s: %d photos in %.0f s", row, len(ids), seconds)


if __name__ == "__main__":
    cli.run(main)
