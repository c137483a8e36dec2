"""Galleries of given vectors, in memory; the id of an image is its number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lineup.search import exact
from lineup.search.gallery import Gallery


def gallery(vectors: np.ndarray, metric: exact.Metric = "cosine", batch: int = 700) -> Gallery:
    def batches() -> Iterator[exact.Batch]:
        for start in range(0, len(vectors), batch):
            part = vectors[start : start + batch]
            yield [str(start + i) for i in range(len(part))], part

    return Gallery(metric, len(vectors), vectors.shape[1], batches, "here")


def prepared(metric: exact.Metric, vectors: np.ndarray) -> np.ndarray:
    return exact.prepare(metric, [str(i) for i in range(len(vectors))], vectors, "here")
