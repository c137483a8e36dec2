"""How widely an approximate index is searched: only as widely as its recall target needs.

It is tuned with vectors of the gallery as queries, each without itself among its results. The choice follows
from recalls and sizes, never from a clock.
"""

from __future__ import annotations

import itertools
from typing import Any

import faiss
import numpy as np

from lineup.errors import UserError
from lineup.search import faiss_candidates, faiss_search, ground_truth
from lineup.search.gallery import Gallery
from lineup.settings.search import Index

TUNING_GALLERY_VECTORS = 500


def tune(
    index: faiss.Index, settings: Index, gallery: Gallery, k: int, setting: str
) -> tuple[dict[str, int], float]:
    """Sets the cheapest search parameters that reach the recall target; returns them and the recall."""
    sampled = gallery.sample(TUNING_GALLERY_VECTORS)
    queries, self_matches = gallery.vectors_at(sampled), np.column_stack([np.arange(len(sampled)), sampled])
    truth = ground_truth.neighbours(gallery.metric, queries, self_matches, gallery.chunks(), k)
    best = -1.0
    for parameters in _parameter_grid(index, gallery.size, k):
        _set(index, parameters)
        reached = ground_truth.recall(faiss_search.nearest(index, queries, k, self_matches)[0], truth, k)
        if reached >= settings.target:
            _drop_direct_map(index)
            return parameters, reached
        best = max(best, reached)
    advice = "set storage: float32" if settings.storage != "float32" else "set index: flat"
    raise UserError(
        f"{setting}.recall_target is {settings.target}, but index: {settings.index} with storage: "
        f"{settings.storage} reaches {best:.3f} on this gallery at most; lower the target or {advice}"
    )


def _parameter_grid(index: Any, rows: int, k: int) -> list[dict[str, int]]:
    """The search parameters to try, from the least work to the most."""
    if isinstance(index, faiss.IndexHNSW):
        depth = k + faiss_candidates.MARGIN
        return [{"efSearch": width} for width in _steps(depth, max(rows, depth), 2**0.5)]
    lists = faiss.extract_index_ivf(index)
    if not isinstance(index, faiss.IndexRefine):
        return [{"nprobe": width} for width in _steps(1, lists.nlist, 2**0.5)]
    pairs = itertools.product(_steps(1, lists.nlist, 2), (1, 2, 4, 8, 16, 32))
    refined = faiss.downcast_index(index.refine_index).code_size  # type: ignore[union-attr]
    # By the bytes that a search reads.
    ordered = sorted((p * rows / lists.nlist * lists.code_size + f * k * refined, p, f) for p, f in pairs)
    return [{"nprobe": width, "k_factor": factor} for _, width, factor in ordered]


def _steps(first: int, last: int, factor: float) -> list[int]:
    """Whole numbers from first to last, each about `factor` times the one before."""
    steps = [first]
    while steps[-1] < last:
        steps.append(min(last, max(steps[-1] + 1, round(steps[-1] * factor))))
    return steps


def _set(index: Any, parameters: dict[str, int]) -> None:
    if "efSearch" in parameters:
        index.hnsw.efSearch = parameters["efSearch"]
    if "nprobe" in parameters:
        faiss.extract_index_ivf(index).nprobe = parameters["nprobe"]
    if "k_factor" in parameters:
        index.k_factor = parameters["k_factor"]


def _drop_direct_map(index: faiss.Index) -> None:
    """Drops the map from images to lists, which decoding makes and the file must not hold."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        lists.make_direct_map(False)
