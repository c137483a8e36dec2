"""A model's side of a search from outside the pipeline: its encoder for a photo, its text tower for words,
its index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lineup import paths
from lineup.embedding import inference
from lineup.encoders import encoder_folder
from lineup.encoders.encoder import TextEncoder
from lineup.encoders.encoder_config import CONFIG_FILE
from lineup.engines import conversion
from lineup.engines.engine import Engine, Network
from lineup.errors import UserError
from lineup.photos import decoding
from lineup.search import exact, gallery
from lineup.serving.gallery_photos import Gallery
from lineup.settings.params import Params
from lineup.storage import embeddings, files

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Model:
    """A row of `models`: its index in memory, its encoder and its text tower from the first question for them
    on.
    """

    name: str
    index: faiss.Index
    metric: exact.Metric
    device: torch.device
    shorter_side_px: int

    def of_photo(self, data: bytes) -> Vectors:
        """A file's bytes -> float32 [1, D], prepared and embedded as the pipeline does.

        Raises images.BadImage.
        """
        return self.of_prepared(
            hashlib.sha256(data).hexdigest(), decoding.prepare(data, self.shorter_side_px).replacement or data
        )

    def of_prepared(self, image_id: str, prepared: bytes) -> Vectors:
        """A file's id and its prepared picture -> float32 [1, D]."""
        [batch] = inference.vectors(self._network, [(image_id, prepared)], 1, 1)
        return self._searchable(batch.vectors)

    def of_words(self, words: str) -> Vectors:
        """float32 [1, D]. UserError if the row has no text tower, or a metric that words can't be searched
        by.
        """
        if self.metric != "cosine":
            raise UserError(
                f"models.{self.name}: search.metric is {self.metric}, and texts and photos are alike by their angle only; "
                "add a row with metric: cosine"
            )
        with torch.inference_mode():
            vectors = self._text.module(self._text.tokenize([words])).float().numpy()
        return self._searchable(vectors)

    def of_image(self, position: int) -> Vectors:
        """float32 [1, D] of the gallery's own image, as it is in the index."""
        return exact.vectors_at(self.index, np.array([position]))

    @cached_property
    def _network(self) -> Network:
        """torch's, for one image at a time: the pipeline's shape of several gives the same but for rounding,
        much later.
        """
        return replace(
            conversion.prepare(
                Engine("torch", "float32", self.device), encoder_folder.load(paths.trained(self.name))
            ),
            shape=1,
        )

    @cached_property
    def _text(self) -> TextEncoder:
        return encoder_folder.load_text(paths.trained(self.name))

    def _searchable(self, vectors: Vectors) -> Vectors:
        if vectors.shape[1] != self.index.d:
            raise UserError(
                f"{paths.index(self.name)}: has {self.index.d} dimensions, the encoder {vectors.shape[1]}; run `dvc repro`"
            )
        return exact.prepare(self.metric, ["you gave"], vectors, self.name)


def has_text(model: str, params: Params) -> bool:
    """Whether the row can be asked with words: fine-tuning the images' tower leaves the text tower behind."""
    return (
        params.models[model].search.metric == "cosine"
        and (paths.trained(model) / encoder_folder.TEXT_FILE).exists()
    )


def check(model: str, metric: exact.Metric, ids: pa.ChunkedArray) -> faiss.Index:
    """The row's index. ids: of the gallery's images.

    UserError if index, embeddings or encoder aren't there, or don't belong together, as when `dvc repro` was
    stopped halfway.
    """
    index, folder = exact.load(paths.index(model), metric, len(ids)), paths.embeddings(model)
    gallery.check_ids(folder, ids)
    origin, built = embeddings.origin(folder), files.read_json(paths.costs("index", model))
    if any(built.get(fact) != value for fact, value in gallery.read_from(folder).items()):
        raise UserError(
            f"{paths.index(model)}: the gallery has changed since it was built; run `dvc repro` to go on"
        )
    if files.read_json(paths.trained(model) / CONFIG_FILE)["weights_sha256"] != origin.weights_sha256:
        raise UserError(
            f"{paths.trained(model)}: has changed since it embedded {folder}; run `dvc repro` to go on"
        )
    return index


def load(model: str, params: Params, searched: Gallery) -> Model:
    """A row of params.models. UserError as `check` raises it."""
    metric = params.models[model].search.metric
    index = check(model, metric, searched.ids)
    return Model(
        model, index, metric, inference.choose_device(params.embed.device), params.preprocess.shorter_side_px
    )
