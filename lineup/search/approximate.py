"""Approximate indexes: built by FAISS's factory, searched only as widely as a recall target needs.

The same vectors give the same bytes: training and adding run on one thread, on samples drawn with a fixed
seed, in batches of a fixed size. How widely to search is tuned with vectors of the gallery as queries, each
without itself among its results. The choice follows from recalls and sizes, never from a clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from lineup.errors import UserError
from lineup.search import faiss_candidates, faiss_search, flat_index, ground_truth
from lineup.search.gallery import Gallery
from lineup.search.vectors import Positions, Vectors
from lineup.settings.search import Index, Kind, Storage

# What an index stores a number of a vector as; only a refinement has bits (refinements/quantise.py).
StoredAs = Storage | Literal["binary"]

# benchmarks/search.py and benchmarks/scale.py measured these two sizes.
AUTO_FLAT_BELOW_IMAGES = 10_000
AUTO_IVF_FROM_IMAGES = 500_000
TUNING_GALLERY_VECTORS = 500
RECALL_QUERIES = 1_000
PQ_TRAINING_IMAGES = 39 * 256  # FAISS asks for 39 vectors for each of 256 centroids
_HNSW_LINKS = 32
_INT8_TRAINING_VECTORS = 16_384
_SEED = 0


@dataclass(frozen=True)
class IndexSetup:
    """How an index was built and tuned.

    index, storage: the values of the settings, without auto. parameters: what FAISS searches with, such as
    {"nprobe": 4}. recall_target, tuned_recall: recall@k that was asked for, and that was reached on vectors
    of the gallery; both None for an index that compares every vector.
    """

    index: Kind
    storage: StoredAs
    parameters: dict[str, int]
    recall_target: float | None = None
    tuned_recall: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the row's costs."""
        described = {"index": self.index, "storage": self.storage, "parameters": self.parameters}
        if self.tuned_recall is None:
            return described
        return {**described, "recall_target": self.recall_target, "ann_recall_tuned": self.tuned_recall}


@dataclass(frozen=True)
class Built:
    """An index that is set to search as widely as its recall target needs, and how it is set."""

    index: faiss.Index
    setup: IndexSetup


def kind(settings: Index, images: int) -> Kind:
    """The kind of index; `auto` is resolved by the number of gallery images.

    Below AUTO_FLAT_BELOW_IMAGES an exact search is fast; from AUTO_IVF_FROM_IMAGES on, HNSW's graph takes
    long to build.
    """
    if settings.index != "auto":
        return settings.index
    return "flat" if images < AUTO_FLAT_BELOW_IMAGES else "hnsw" if images < AUTO_IVF_FROM_IMAGES else "ivf"


def is_exact(settings: Index, images: int) -> bool:
    """Whether an index of this many images finds the true nearest ones."""
    return kind(settings, images) == "flat" and settings.storage == "float32"


def build(settings: Index, gallery: Gallery, k: int, setting: str, empty: faiss.Index | None = None) -> Built:
    """An index of the gallery, tuned to reach its recall target.

    Args:
        k: the depth at which the recall target counts.
        setting: where params.yaml has the settings, which errors name.
        empty: what `trained` returned, to build the index from a copy of it; default: trained on the gallery.
    Raises:
        UserError: the gallery is too small for the index, or the index cannot reach the target.
    """
    chosen = kind(settings, gallery.size)
    if chosen == "ivfpq" and gallery.size < PQ_TRAINING_IMAGES:
        raise UserError(
            f"{setting}.index: ivfpq is trained on {PQ_TRAINING_IMAGES:,} gallery images or more, "
            f"and there are {gallery.size:,}; set flat or hnsw"
        )
    index = trained(settings, gallery) if empty is None else faiss.clone_index(empty)
    with threadpool_limits(limits=1):
        _fill(index, gallery)
    if chosen == "flat":
        return Built(index, IndexSetup(chosen, settings.storage, {}))
    parameters, recall = _tune(index, settings, gallery, min(k, gallery.size), setting)
    return Built(index, IndexSetup(chosen, settings.storage, parameters, settings.target, round(recall, 4)))


def trained(settings: Index, gallery: Gallery) -> faiss.Index:
    """An index without images, which has learned from the gallery how to store them."""
    key = _factory_key(kind(settings, gallery.size), settings, gallery)
    index = faiss.index_factory(gallery.dim, key, flat_index.faiss_metric(gallery.metric))
    with threadpool_limits(limits=1):
        _train(index, gallery)
    return index


def recalls(
    positions: Positions, queries: Vectors, excluded: Positions, gallery: Gallery, cutoffs: Iterable[int]
) -> dict[str, float]:
    """Recall of a ranking against exact search, over at most RECALL_QUERIES of the queries.

    Args:
        positions: int64 [Q, K], the ranked gallery images.
        queries: float32 [Q, D], as they were searched with.
        excluded: int64 [E, 2] of (query, gallery position).
    Returns:
        {"10": recall@10, ...}, one for each cutoff.
    """
    picked = np.sort(
        np.random.default_rng(_SEED).choice(len(queries), min(RECALL_QUERIES, len(queries)), replace=False)
    )
    picked_excluded = excluded[np.isin(excluded[:, 0], picked)]
    picked_excluded = np.column_stack([np.searchsorted(picked, picked_excluded[:, 0]), picked_excluded[:, 1]])
    cutoffs = sorted({min(k, gallery.size) for k in cutoffs})
    truth = ground_truth.neighbours(
        gallery.metric, queries[picked], picked_excluded, gallery.chunks(), cutoffs[-1]
    )
    return {str(k): round(ground_truth.recall(positions[picked], truth, k), 4) for k in cutoffs}


def _factory_key(chosen: Kind, settings: Index, gallery: Gallery) -> str:
    """The description of an index that faiss.index_factory takes."""
    storage = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}.get(settings.storage, "")
    # FAISS's guidelines: 4 * sqrt(N) lists, each trained on 39 vectors or more.
    lists = max(1, min(int(4 * gallery.size**0.5), gallery.size // 39))
    codes = max(parts for parts in range(1, max(2, gallery.dim // 8 + 1)) if gallery.dim % parts == 0)
    refined = f",Refine({storage})" if storage else ""
    return {
        "flat": storage,
        "hnsw": f"HNSW{_HNSW_LINKS},{storage}",
        "ivf": f"IVF{lists},{storage}",
        "ivfpq": f"IVF{lists},PQ{codes}{refined}",
    }[chosen]


def _train(index: faiss.Index, gallery: Gallery) -> None:
    lists, size = faiss.try_extract_index_ivf(index), _INT8_TRAINING_VECTORS
    if lists is not None:
        lists: Any = faiss.downcast_index(lists)
        lists.cp.niter, lists.cp.min_points_per_centroid = 10, 1
        size = max(39 * lists.nlist, _INT8_TRAINING_VECTORS)
        if isinstance(lists, faiss.IndexIVFPQ):
            lists.pq.cp.niter, lists.pq.cp.max_points_per_centroid = 10, 39
            # Polysemous training serves a filter that is not used here, and takes minutes.
            lists.do_polysemous_training = False  # type: ignore[attr-defined]
    if not index.is_trained:
        index.train(gallery.vectors_at(gallery.sample(size)))  # type: ignore[call-arg]


def _fill(index: Any, gallery: Gallery) -> None:
    """Adds all vectors to memory that is reserved once.

    Adding batch by batch would grow the memory, and hold every vector twice while it moves.
    """
    if isinstance(index, faiss.IndexRefine):
        _fill_lists(faiss.downcast_index(index.base_index), gallery)
        _fill_codes(faiss.downcast_index(index.refine_index), gallery)
        index.ntotal = gallery.size
    elif isinstance(index, faiss.IndexIVF):
        _fill_lists(index, gallery)
    else:
        _fill_codes(index, gallery)


def _fill_codes(index: Any, gallery: Gallery) -> None:
    flat: Any = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    flat.codes.resize(gallery.size * flat.code_size)
    flat.codes.resize(0)  # a C++ vector keeps its memory when it shrinks
    for vectors in gallery.chunks():
        index.add(vectors)  # type: ignore[call-arg]


def _fill_lists(index: Any, gallery: Gallery) -> None:
    assigned = [index.quantizer.search(vectors, 1)[1].ravel() for vectors in gallery.chunks()]
    for number, size in enumerate(np.bincount(np.concatenate(assigned), minlength=index.nlist).tolist()):
        index.invlists.resize(number, size)
        index.invlists.resize(number, 0)
    for vectors, lists in zip(gallery.chunks(), assigned, strict=True):
        index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists), None)


def _tune(
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
        return [
            {"efSearch": width}
            for width in _steps(k + faiss_candidates.MARGIN, max(rows, k + faiss_candidates.MARGIN), 2**0.5)
        ]
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
