"""The training of an adapter row: its encoder's vectors from the cache, the learning, the row's folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from lineup import paths
from lineup.adapters import epochs, layers, learning, start, trainer, whitening
from lineup.adapters.learning import Learned
from lineup.embedding import computation, job, vector_cache
from lineup.embedding.job import EmbedJob
from lineup.encoders import adapter
from lineup.encoders.adapter import Vectors
from lineup.encoders.encoder_config import JsonObject, read_config
from lineup.fingerprint import code_digest
from lineup.settings.adapter import Adapter
from lineup.settings.params import Params
from lineup.settings.training import Train
from lineup.storage import parquet
from lineup.training.data import Manifest
from lineup.training.deadline import Deadline

_ROWS_PER_BATCH = 8_192
_MODULES = (adapter, epochs, layers, learning, start, trainer, whitening)  # whose code decides the weights
# Settings that decide no weight, and those of a training on photos.
_DECIDING_NOTHING = {"max_minutes", "memory_mb", "device", "augmentation", "image_size", "freeze"}


def train(
    row: str, objective: Adapter, settings: Train, manifest: Manifest, params: Params
) -> tuple[Learned, JsonObject]:
    """Learns the row's adapter; the encoder computes the training photos that no row has embedded before.

    It does so in the precision of the section `embed`, whatever the row's own, so that rows which differ in
    precision alone share a training.

    Returns:
        what was learned, and all that decided it.
    """
    embed = params.embed
    if embed.precision == "int8":
        embed = embed.model_copy(update={"precision": "float32"})
    embedded = job.prepare_fetched(row, "train", embed)
    computation.compute(embedded, embed)
    deadline = Deadline(60 * settings.max_minutes)
    config = read_config(paths.weights(row))
    vectors = _vectors(embedded, manifest)
    learned = learning.train(objective, settings, vectors, manifest, config, params.seed, deadline)
    return learned, {
        "encoder": embedded.key,
        "objective": objective.model_dump(mode="json", exclude=set(Train.model_fields)),
        "needs": asdict(objective.needs),
        "settings": settings.model_dump(mode="json", exclude=_DECIDING_NOTHING),
        "seed": params.seed,
        "images": manifest.digest(),
        "code": code_digest(*(Path(str(module.__file__)) for module in _MODULES), Path(__file__)),
        "best_epoch": learned.progress.best_epoch,
    }


def _vectors(embedded: EmbedJob, manifest: Manifest) -> Vectors:
    """The vectors of the training images, in the order of the manifest: float32 [N, D]."""
    ids: list[str] = []
    vectors = [np.empty((0, embedded.cache.dim), np.float32)]
    for rows in parquet.read_shards(paths.images("train"), ["image_id", "prepared_id"], _ROWS_PER_BATCH):
        ids += rows.column("image_id").to_pylist()
        vectors.append(embedded.cache.read(vector_cache.keys(rows)))
    return np.concatenate(vectors)[np.searchsorted(np.array(ids, np.str_), manifest.ids)]
