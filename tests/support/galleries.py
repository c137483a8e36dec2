"""Galleries of given vectors, in memory; the id of an image is its number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lineup.search.gallery import Gallery
from lineup.search.vectors import Batch, Metric, prepare_vectors


def gallery(vectors: np.ndarray, metric: Metric = "cosine", batch: int = 700) -> Gallery:
    def batches() -> Iterator[Batch]:
        for start in range(0, len(vectors), batch):
            part = vectors[start : start + batch]
            yield [str(start + i) for i in range(len(part))], part

    return Gallery(metric, len(vectors), vectors.shape[1], batches, "here")


def prepared(metric: Metric, vectors: np.ndarray) -> np.ndarray:
    return prepare_vectors(metric, [str(i) for i in range(len(vectors))], vectors, "here")
