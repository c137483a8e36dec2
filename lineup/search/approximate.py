"""Approximate indexes, made by FAISS's factory: they compare some of the vectors, or store fewer bits.

The same vectors give the same bytes: training and adding run on one thread, on samples drawn with a fixed
seed, in batches of a fixed size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
from threadpoolctl import threadpool_limits

from lineup.errors import UserError
from lineup.search import flat_index, index_filling, index_tuning
from lineup.search.gallery import Gallery
from lineup.search.index_setup import IndexSetup
from lineup.settings.search import Index, Kind

# benchmarks/search.py and benchmarks/scale.py measured these two sizes.
AUTO_FLAT_BELOW_IMAGES = 10_000
AUTO_IVF_FROM_IMAGES = 500_000
PQ_TRAINING_IMAGES = 39 * 256  # FAISS asks for 39 vectors for each of 256 centroids
_HNSW_LINKS = 32
_INT8_TRAINING_VECTORS = 16_384


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
        index_filling.fill(index, gallery)
    if chosen == "flat":
        return Built(index, IndexSetup(chosen, settings.storage, {}))
    parameters, recall = index_tuning.tune(index, settings, gallery, min(k, gallery.size), setting)
    return Built(index, IndexSetup(chosen, settings.storage, parameters, settings.target, round(recall, 4)))


def trained(settings: Index, gallery: Gallery) -> faiss.Index:
    """An index without images, which has learned from the gallery how to store them."""
    key = _factory_key(kind(settings, gallery.size), settings, gallery)
    index = faiss.index_factory(gallery.dim, key, flat_index.faiss_metric(gallery.metric))
    with threadpool_limits(limits=1):
        _train(index, gallery)
    return index


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
