"""Asking a row's gallery by hand, outside the pipeline: with a photo, with words, or with one of its own images."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from stages.lib import encoders, gallery, images, inference, paths, search, tables
from stages.lib.encoders import Encoder, TextEncoder
from stages.lib.errors import UserError
from stages.lib.params import Params

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Image:
    """One of the gallery. label: None if unknown; paths: every file with its bytes, relative to data/raw."""

    image_id: str
    label: str | None
    paths: list[str]


@dataclass(frozen=True)
class Answer:
    """score: higher is nearer, as in a ranking."""

    image: Image
    score: float


@dataclass(frozen=True)
class Gallery:
    """The images searched in: tables.MANIFEST's image_id, label and paths, one chunk each, sorted by id."""

    rows: pa.Table

    @property
    def ids(self) -> pa.ChunkedArray:
        return self.rows.column("image_id")

    def position(self, image_id: str) -> int | None:
        """Its place in the order of the ids; None if the gallery has no such image."""
        place = bisect_left(range(len(self.ids)), image_id, key=lambda i: self.ids[i].as_py())
        return place if place < len(self.ids) and self.ids[place].as_py() == image_id else None

    def image(self, position: int) -> Image:
        return Image(*(self.rows.column(name)[position].as_py() for name in ("image_id", "label", "paths")))


def read_gallery() -> Gallery:
    manifest = tables.read_table(paths.manifest("test"), columns=["image_id", "split", "label", "paths"])
    return Gallery(manifest.filter(pc.field("split") == "gallery").combine_chunks())


def has_text(model: str) -> bool:
    """Whether the row can be asked with words: fine-tuning the images' tower leaves the text tower behind."""
    return (paths.trained(model) / encoders.TEXT_FILE).exists()


@dataclass(frozen=True)
class Row:
    """A row that can be asked: its encoder and index in memory, its text tower from the first words on."""

    model: str
    searched: Gallery
    encoder: Encoder
    index: faiss.IndexFlat
    metric: search.Metric
    device: torch.device
    max_side: int

    def of_photo(self, data: bytes) -> Vectors:
        """A file's bytes -> float32 [1, D], prepared and embedded as the pipeline does. Raises images.BadImage."""
        prepared = images.prepare(data, self.max_side).replacement or data
        photo = (hashlib.sha256(data).hexdigest(), prepared)
        [batch] = inference.run(self.encoder, [photo], 1, self.device, 1)
        return self._searchable(batch.vectors)

    def of_words(self, words: str) -> Vectors:
        """float32 [1, D]. UserError if the row has no text tower."""
        with torch.inference_mode():
            vectors = self._text.module(self._text.tokenize([words])).float().numpy()
        return self._searchable(vectors)

    def of_image(self, position: int) -> Vectors:
        """float32 [1, D] of the gallery's own image, as it is in the index."""
        return search.stored_vectors(self.index, self.index.ntotal)[position : position + 1].copy()

    def nearest(self, vector: Vectors, k: int, without: int | None = None) -> list[Answer]:
        """The k nearest, nearest first; vector: float32 [1, D]; without: the position of an image to leave out."""
        excluded = np.array([] if without is None else [[0, without]], np.int64).reshape(-1, 2)
        positions, scores = search.nearest(self.index, vector, k, excluded)
        found = positions[0] >= 0
        return [Answer(self.searched.image(int(p)), float(s)) for p, s in zip(positions[0][found], scores[0][found], strict=True)]

    @cached_property
    def _text(self) -> TextEncoder:
        return encoders.load_text(paths.trained(self.model))

    def _searchable(self, vectors: Vectors) -> Vectors:
        if vectors.shape[1] != self.index.d:
            raise UserError(f"{paths.index(self.model)}: has {self.index.d} dimensions, the encoder {vectors.shape[1]}; run `dvc repro`")
        return search.prepare(self.metric, ["you gave"], vectors, self.model)


def open_row(model: str, params: Params, searched: Gallery) -> Row:
    """Loads a row of params.models. UserError if one of its files is not there, or is of other images."""
    metric = params.models[model].search.metric
    index = search.load(paths.index(model), metric, len(searched.ids))
    embedded = [batch.column("image_id") for batch in gallery.rows(paths.embeddings(model), ["image_id", "split"])]
    if not pa.chunked_array(embedded, pa.string()).equals(searched.ids):
        raise UserError(f"{paths.embeddings(model)}: holds other images than {paths.manifest('test')}; run `dvc repro`")
    encoder = encoders.load(paths.trained(model))
    return Row(model, searched, encoder, index, metric, inference.choose_device(params.embed.device), params.preprocess.max_side)
