"""map@row: the test photos in two dimensions by a row's vectors, for the rows that `map` names."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa

from lineup import cli, paths
from lineup.errors import UserError
from lineup.report import projection
from lineup.settings.params import Map
from lineup.storage import embeddings, parquet, schemas
from lineup.storage.embeddings import Embeddings

log = logging.getLogger(__name__)


def drawn(queries: Embeddings, gallery: Embeddings, seed: int) -> Embeddings:
    """The vectors of the photos on the map, each photo once, sorted by id."""
    chosen = projection.sample(queries.ids.tolist(), gallery.ids.tolist(), projection.MOST_PHOTOS, seed)
    ids, first = np.unique(np.concatenate([queries.ids, gallery.ids]), return_index=True)
    on_map = np.isin(ids, [*chosen])
    return Embeddings(ids[on_map], np.concatenate([queries.vectors, gallery.vectors])[first[on_map]])


def table(queries: Embeddings, gallery: Embeddings, ids: list[str], positions: projection.Floats) -> pa.Table:
    """The rows of schemas.MAP: a photo that is a query and in the gallery has two.

    Args:
        ids: str [N], of the photos on the map.
        positions: float32 [N, 2].
    """
    at = dict(zip(ids, positions.tolist(), strict=True))
    rows = [
        (image_id, split, *at[image_id])
        for split, images in (("query", queries), ("gallery", gallery))
        for image_id in images.ids.tolist()
        if image_id in at
    ]
    columns = zip(*sorted(rows), strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schemas.MAP, strict=True)], schemas.MAP)


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("map", argv)
    projection.check_installed()
    queries, gallery = (embeddings.read_embeddings(paths.embeddings(row), s) for s in ("query", "gallery"))
    photos = drawn(queries, gallery, params.seed)
    if len(photos.ids) < projection.FEWEST_PHOTOS:
        raise UserError(
            f"{paths.PARAMS}: map names {row}, but a map takes {projection.FEWEST_PHOTOS} test photos or "
            f"more, and {paths.RAW / 'test'} has {len(photos.ids)}; add photos, or remove map.{row}"
        )
    neighbours = params.map.get(row, Map()).neighbours
    positions = projection.project(photos.vectors, params.models[row].search.metric, neighbours, params.seed)
    parquet.write_table(paths.photo_map(row), table(queries, gallery, photos.ids.tolist(), positions))
    log.info("%s: %d photos", row, len(photos.ids))


if __name__ == "__main__":
    cli.run(main)
