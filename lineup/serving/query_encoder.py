"""Brings a query into the space of one model: with its encoder for photos, or its text tower for texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lineup import paths
from lineup.embedding import inference, query_network
from lineup.encoders import encoder_config, encoder_folder, model_folder
from lineup.encoders.encoder import TextEncoder
from lineup.engines.engine import Network
from lineup.errors import UserError
from lineup.photos import image_preparation
from lineup.search import gallery, index_file, parted_index
from lineup.search.parted_index import Searchable
from lineup.search.vectors import Metric, prepare_vectors
from lineup.serving.gallery_photos import GalleryPhotos
from lineup.settings.params import Params
from lineup.storage import embeddings, files

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """A row of `models`: its index, and its encoder and text tower, which are loaded when first used.

    network: gives the network for one image at a time, the same at each call.
    """

    name: str
    index: Searchable
    metric: Metric
    network: Callable[[], Network]
    shorter_side_px: int

    def embed_image(self, data: bytes) -> Vectors:
        """A photo's file, prepared and embedded as in the pipeline: float32 [1, D]. Raises BadImage."""
        prepared = image_preparation.prepare(data, self.shorter_side_px).replacement or data
        return self.embed_prepared(hashlib.sha256(data).hexdigest(), prepared)

    def embed_prepared(self, image_id: str, prepared: bytes) -> Vectors:
        """A prepared image -> float32 [1, D]."""
        [batch] = inference.vectors(self.network(), [(image_id, prepared)], 1, 1)
        return self._searchable(batch.vectors)

    def embed_text(self, text: str) -> Vectors:
        """A text -> float32 [1, D].

        Raises:
            UserError: the row has no text tower, or a metric that texts cannot be searched by.
        """
        if self.metric != "cosine":
            raise UserError(
                f"models.{self.name}: search.metric is {self.metric}, but texts and photos "
                "can be compared by cosine only; add a row with metric: cosine"
            )
        with torch.inference_mode():
            vectors = self._text.module(self._text.tokenize([text])).float().numpy()
        return self._searchable(vectors)

    def gallery_vector(self, position: int) -> Vectors:
        """The vector of a gallery image as the index stores it, float32 [1, D]."""
        return parted_index.vectors_at(self.index, np.array([position]))

    @cached_property
    def _text(self) -> TextEncoder:
        return encoder_folder.load_text(model_folder.resolve(paths.model(self.name)))

    def _searchable(self, vectors: Vectors) -> Vectors:
        if vectors.shape[1] != self.index.d:
            raise UserError(
                f"{paths.index(self.name)}: has {self.index.d} dimensions, but the encoder "
                f"{vectors.shape[1]}; run `dvc repro`"
            )
        return prepare_vectors(self.metric, ["you gave"], vectors, self.name)


def has_text(model: str, params: Params) -> bool:
    """Whether the row can be searched with a text. Fine-tuning on images leaves the text tower behind."""
    return (
        params.models[model].search.metric == "cosine"
        and (model_folder.resolve(paths.model(model)) / encoder_folder.TEXT_FILE).exists()
    )


def checked_index(model: str, metric: Metric, ids: pa.ChunkedArray) -> Searchable:
    """The row's index, after a check that index, embeddings and encoder belong together.

    They do not after a `dvc repro` that was stopped halfway.

    Args:
        ids: of the gallery's images.
    Raises:
        UserError: one of the three is missing, or does not belong to the others.
    """
    index, folder = index_file.load(paths.index(model), metric, len(ids)), paths.embeddings(model)
    gallery.check_same_images(folder, {"gallery": ids})
    weights, built = embeddings.origin(folder).weights_sha256, files.read_json(paths.costs("index", model))
    if any(built.get(key) != value for key, value in gallery.identity(folder).items()):
        raise UserError(
            f"{paths.index(model)}: the gallery has changed since it was built; run `dvc repro` to go on"
        )
    config = files.read_json(model_folder.resolve(paths.model(model)) / encoder_config.CONFIG_FILE)
    if config["weights_sha256"] != weights:
        raise UserError(
            f"{paths.model(model)}: has changed since it embedded {folder}; run `dvc repro` to go on"
        )
    return index


def load(model: str, params: Params, photos: GalleryPhotos, threads: int = 1) -> QueryEncoder:
    """A row of params.models. UserError as `checked_index` raises it.

    threads: how many of them will embed queries at once.
    """
    metric = params.models[model].search.metric
    index = checked_index(model, metric, photos.ids)
    network = cache(lambda: query_network.load(model, params.embed_of(model), threads))
    return QueryEncoder(model, index, metric, network, params.preprocess.shorter_side_px)
