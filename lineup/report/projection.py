"""A row's vectors in two dimensions, for the map of the photos, by UMAP.

Source: McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, 2018.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lineup.errors import UserError

# On a map of more photos, points hide each other, and UMAP takes minutes.
MOST_PHOTOS = 20_000
# UMAP starts from the eigenvectors of a graph, which takes more photos than dimensions, and some to spare.
FEWEST_PHOTOS = 10
_MIN_DISTANCE = 0.1
_DECIMALS = 4

Floats = npt.NDArray[np.float32]


def check_installed() -> None:
    """Raises UserError if umap-learn is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise UserError("map: umap-learn is not installed; run `pip install 'lineup[map]'`, or remove map")


def sample(queries: Collection[str], gallery: Collection[str], most: int, seed: int) -> set[str]:
    """The ids of the photos on the map: all of them, or `most`.

    At least half of a sample are queries, where there are as many, because a region of the map chooses among
    them. Which photos are taken follows from the hash of each one's id, so that a photo that is added takes
    the place of one other at most.

    Args:
        queries, gallery: ids, which may overlap; a photo of both counts as a query.
        seed: of params.yaml; another one takes other photos.
    """
    others = set(gallery) - set(queries)
    queries_taken = max(most - most // 2, most - len(others))
    chosen = _first_by_hash(set(queries), queries_taken, seed)
    return chosen | _first_by_hash(others, most - len(chosen), seed)


def _first_by_hash(ids: set[str], count: int, seed: int) -> set[str]:
    def order(image_id: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed} {image_id}".encode()).digest(), image_id

    return set(sorted(ids, key=order)[:count]) if len(ids) > count else ids


def project(vectors: Floats, metric: Literal["cosine", "l2"], neighbours: int, seed: int) -> Floats:
    """Two coordinates of each vector: what is near by the metric is near on the map, but far means little.

    It uses one thread, so that on one machine the same vectors give the same coordinates.

    Args:
        vectors: float32 [N, D], N of FEWEST_PHOTOS or more.
        neighbours: of each photo, that UMAP keeps near: fewer show detail, more show the whole.
    Returns:
        float32 [N, 2], without a unit.
    """
    from umap import UMAP  # It takes seconds to import.

    umap = UMAP(
        n_neighbors=min(neighbours, len(vectors) - 1),
        min_dist=_MIN_DISTANCE,
        metric="cosine" if metric == "cosine" else "euclidean",
        random_state=seed,
        n_jobs=1,
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Where vectors are equal it warns of its second way.
        projected = np.asarray(umap.fit_transform(vectors), np.float32)
    return np.round(projected, _DECIMALS)
