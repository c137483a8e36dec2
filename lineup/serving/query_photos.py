"""The photos with which a row's speed is measured: some of the test's queries, as files and as prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from lineup import paths
from lineup.embedding.inference import EncodedImage
from lineup.errors import UserError
from lineup.photos import prepared_images
from lineup.storage import parquet


@dataclass(frozen=True)
class QueryPhotos:
    """Some queries, spread evenly over the ids, whose order is arbitrary.

    contents: their files as their owner has them, or as prepared where those are not here; uploads: how many
    are files of their owner. prepared: all of them as prepared.
    """

    contents: list[bytes]
    uploads: int
    prepared: list[EncodedImage]


def read(count: int) -> QueryPhotos:
    """Reads `count` queries, or all if there are fewer. Raises UserError if there is none."""
    manifest = parquet.read_table(paths.manifest("test"), columns=["image_id", "split", "paths"])
    queries = manifest.filter(pc.field("split") == "query")
    if not queries.num_rows:
        raise UserError(f"{paths.manifest('test')}: has no query; put photos into data/raw/test/query")
    picked = np.unique(np.linspace(0, queries.num_rows - 1, min(count, queries.num_rows)).astype(int))
    contents: list[bytes] = []
    prepared: list[EncodedImage] = []
    uploads = 0
    for line in queries.take(picked).to_pylist():
        image = prepared_images.read(paths.images("test"), line["image_id"])
        assert image is not None, "preprocess writes manifest and images together"
        prepared.append((line["image_id"], image))
        upload = _owners_file(line["image_id"], line["paths"])
        uploads += upload is not None
        contents.append(upload or image)
    return QueryPhotos(contents, uploads, prepared)


def _owners_file(image_id: str, own_paths: Sequence[str]) -> bytes | None:
    """A photo's file in data/raw; None where that is not here, as in a clone, or has changed since."""
    for path in own_paths:
        try:
            content = (paths.RAW / path).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == image_id:
            return content
    return None
