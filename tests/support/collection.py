"""A small collection of images as `preprocess` and `embed` leave it, written with their own writers.

No pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

import stages.slices
from lineup import paths
from lineup.paths import Part
from lineup.slices import slices
from lineup.storage import embeddings, files, parquet, rankings, schemas
from lineup.training_effects import seen_values
from stages import compare, index, retrieve, score

ENCODER = {"library": "torchvision", "name": "resnet18", "weights": "hub"}
FINGERPRINT, WEIGHTS = "0" * 64, "1" * 64
EMBED_COSTS = {
    "images_per_second": 120.5,
    "peak_memory_mb": 800.0,
    "peak_gpu_memory_mb": None,
    "device": "Some CPU, 2 threads",
    "engine": "torch",
    "precision": "float32",
    "parameters": 2_223_872,
    "gflops": 0.31,
    "image_size": 128,
    "random": False,
    "licence": "BSD-3-Clause",
}


@dataclass(frozen=True)
class Image:
    name: str  # decides the id
    split: str
    label: str | None
    vector: Sequence[float]
    path: str | None = None
    shows: str | None = None  # the name of the image whose pixels it has, in other bytes

    @property
    def id(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


def pixels_id(image: Image) -> str:
    return hashlib.sha256((image.shows or image.name).encode()).hexdigest()


def clustered(
    labels: int, queries: int, gallery: int, noise: float, dim: int = 16, seed: int = 0
) -> list[Image]:
    """Images around one centre per label.

    More noise makes them harder to find. The same names for any noise and seed.
    """
    random = np.random.default_rng(seed)
    centres = random.standard_normal((labels, dim))
    return [
        Image(
            f"{label}/{i}",
            "query" if i < queries else "gallery",
            f"label {label}",
            centres[label] + noise * random.standard_normal(dim),
        )
        for label in range(labels)
        for i in range(queries + gallery)
    ]


def params(*rows: str, metric: str = "cosine", **settings: Any) -> dict[str, Any]:
    row = {"encoder": ENCODER, "objective": {"name": "none"}, "search": {"metric": metric, "index": "flat"}}
    return {"models": dict.fromkeys(rows, row), **settings}


def write_params(content: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_manifest(images: Sequence[Image], part: Part = "test") -> None:
    ordered = sorted(images, key=lambda image: (image.id, image.split))
    rows = [
        {
            "image_id": image.id,
            "split": image.split,
            "label": image.label,
            "paths": [image.path or f"test/{image.split}/{image.name}.jpg"],
            "pixels_id": pixels_id(image),
            "width": 8,
            "height": 8,
            "format": "JPEG",
        }
        for image in ordered
    ]
    parquet.write_table(paths.manifest(part), pa.Table.from_pylist(rows, schemas.MANIFEST))


def write(images: Sequence[Image], qrels: Sequence[tuple[str, str, int]] = ()) -> None:
    """The test manifest and the judgements, (query name, gallery name, relevance), of the working directory."""
    write_manifest(images)
    ids = {image.name: image.id for image in images}
    judged = [
        {"query_id": ids[query], "gallery_id": ids[gallery], "relevance": relevance}
        for query, gallery, relevance in qrels
    ]
    parquet.write_table(paths.QRELS, pa.Table.from_pylist(judged, schemas.QRELS))
    write_attributes(images)
    slices.write(paths.SLICES, [])
    seen_values.write(paths.SEEN_VALUES, [])


def write_attributes(images: Sequence[Image], **columns: Mapping[str, object]) -> None:
    """The test's attributes.

    Args:
        columns: {image name: value}; by default one that says nothing.
    """
    ordered = sorted(images, key=lambda image: (image.id, image.split))
    table = {"image_id": [image.id for image in ordered], "split": [image.split for image in ordered]}
    for column, values in (columns or {"format": {}}).items():
        table[column] = [values.get(image.name) for image in ordered]  # type: ignore[misc]
    parquet.write_table(paths.ATTRIBUTES, pa.table(table))


def write_vectors(row: str, images: Sequence[Image], part: Part = "test", dim: int | None = None) -> None:
    """dim: of the vectors, where there may be no image."""
    ordered = sorted(images, key=lambda image: (image.id, image.split))
    vectors = np.array([image.vector for image in ordered], np.float32).reshape(
        len(ordered), -1 if dim is None else dim
    )
    known = {"image_id": [image.id for image in ordered], "split": [image.split for image in ordered]}
    batch = embeddings.embeddings_batch(
        pa.RecordBatch.from_pydict({**known, "prepared_id": [None] * len(ordered)}), vectors
    )
    schema = schemas.embeddings_schema(vectors.shape[1])
    metadata = embeddings.Origin(row, FINGERPRINT, WEIGHTS).metadata()
    parquet.write_shards(
        paths.embeddings(row, part), schema, [batch], len(ordered), schemas.VECTORS_PER_SHARD, metadata
    )


def write_embeddings(row: str, images: Sequence[Image], **costs: Any) -> None:
    write_vectors(row, images)
    files.write_json(paths.model(row) / "encoder.json", {"weights_sha256": WEIGHTS})
    files.write_json(
        paths.costs("embed", row), {**EMBED_COSTS, "row": row, "fingerprint": FINGERPRINT, **costs}
    )
    files.write_json(paths.costs("train", row), {"row": row, "minutes": 0.0, "note": None})


def search(row: str) -> rankings.Ranking:
    index.main(["--row", row])
    retrieve.main(["--row", row])
    return rankings.read_ranking(paths.ranking(row))


def run(
    rows: Mapping[str, Sequence[Image]], qrels: Sequence[tuple[str, str, int]] = (), **settings: Any
) -> None:
    """Every light stage for every row; all rows have the same images and differ in vectors only."""
    write_params(params(*rows, **settings))
    write(next(iter(rows.values())), qrels)
    for row, images in rows.items():
        write_embeddings(row, images)
        search(row)
        score.main(["--row", row])
    stages.slices.main([])
    compare.main([])
