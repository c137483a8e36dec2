"""A small training set of generated images, prepared as `preprocess` would, and a tiny encoder."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import TypeAdapter

from lineup.encoders import encoder_folder, libraries
from lineup.settings import training
from lineup.settings.encoder import EncoderSettings
from lineup.settings.objective import NoObjective, Objective, Trained
from lineup.storage import parquet, schemas
from lineup.training import data, loop
from lineup.training.deadline import Deadline
from tests.support.small_encoders import RESNET

SIDE = 40
_OBJECTIVE = TypeAdapter(Objective)


@dataclass(frozen=True)
class Photo:
    label: str | None
    data: bytes

    @property
    def image_id(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def photos(labels: int = 10, each: int = 4, seed: int = 0) -> list[Photo]:
    """Per label a pattern of coloured blocks; its images differ in brightness and noise."""
    rng = np.random.default_rng(seed)
    generated = []
    for label in range(labels):
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)
        for _ in range(each):
            pixels = pattern * rng.uniform(0.6, 1.0) + rng.normal(0, 12, pattern.shape)
            generated.append(Photo(f"thing_{label}", _png(pixels)))
    return generated


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, images: list[Photo]) -> None:
    """data/prepared/train below `root`."""
    ordered = sorted(images, key=lambda photo: photo.image_id)
    folder = root / "data/prepared/train"
    ids, labels = [photo.image_id for photo in ordered], [photo.label for photo in ordered]
    count = len(ordered)
    columns = [
        ids,
        ["train"] * count,
        labels,
        [[f"train/{i}.png"] for i in ids],
        ids,
        [SIDE] * count,
        [SIDE] * count,
        ["PNG"] * count,
    ]
    parquet.write_table(folder / "manifest.parquet", pa.table(columns, schema=schemas.MANIFEST))
    batch = pa.record_batch(
        [ids, ["train"] * count, pa.nulls(count, pa.string()), [photo.data for photo in ordered]],
        schema=schemas.IMAGES,
    )
    parquet.write_shards(folder / "images", schemas.IMAGES, [batch], count, schemas.IMAGES_PER_SHARD)


def write_encoder(folder: Path, image_size: int = 32, **settings: Any) -> None:
    """timm's smallest network, with random weights: a start from which everything has to be learned."""
    spec = EncoderSettings(**{**RESNET, "image_size": image_size, **settings})
    torch.manual_seed(0)
    fetched = libraries.library("timm").fetch(spec)
    encoder_folder.save(
        folder, fetched.module, fetched.config.model_copy(update={"resize_px": fetched.config.image_size})
    )


def objective(name: str, **settings: Any) -> Trained:
    row = _OBJECTIVE.validate_python({"name": name, **settings})
    assert not isinstance(row, NoObjective)
    return row


def run(
    root: Path,
    row: Trained,
    cache: str = "checkpoint",
    seed: int = 0,
    deadline: Deadline | None = None,
    **defaults: Any,
) -> loop.Result:
    """Trains on what `write` and `write_encoder` put below `root`, as stages/train.py does."""
    settings = training.settings_of(training.Train(**{**FAST, **defaults}), row)
    manifest = data.read_manifest(root / "data/prepared/train/manifest.parquet")
    folders = loop.Folders(root / "encoder", root / "data/prepared/train/images", root / cache)
    deadline = deadline or Deadline(60 * settings.max_minutes)
    return loop.train(row, settings, encoder_folder.load(root / "encoder"), manifest, folders, seed, deadline)


FAST: dict[str, Any] = {
    "epochs": 2,
    "labels_per_batch": 8,
    "images_per_label": 2,
    "batch_size": 16,
    "images_per_epoch": 32,
    "validation_share": 0.2,
    "learning_rate": 3e-3,
    "device": "cpu",
    "augmentation": {"crop": 0.8, "colour": 0.1, "grey": 0, "blur": 0},
}


def weights(result: loop.Result) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in result.module.state_dict().items()}
