"""Approximate indexes: built by FAISS's factory, searched only as widely as a recall target needs.

The same vectors give the same bytes: training and adding run on one thread, on samples drawn with a fixed
seed, in batches of a fixed size. How widely to search is tuned on vectors of the gallery itself, searched for
without themselves; it follows from recalls and sizes, never from a clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from lineup.errors import UserError
from lineup.search import exact, ground_truth
from lineup.search.exact import Batch, Metric, Positions, Vectors
from lineup.settings.search import Index, Kind

FLAT_BELOW, IVF_FROM = 10_000, 500_000  # images; benchmarks/search.py and scale.py say why
TUNED_ON, MEASURED_ON = 500, 1_000  # vectors of the gallery; queries
CHUNK = 8_192  # vectors added at once
PQ_TRAINED_ON = 39 * 256  # images: 39 for each of 256 centroids is what FAISS asks for
_LINKS = 32  # of a vector in a layer of HNSW's graph
_DECODERS_TRAINED_ON = 16_384  # for the range that int8 covers
_SEED = 0


@dataclass(frozen=True)
class Gallery:
    """What is indexed: `rows` vectors of `dim` numbers, read again by each call of `batches`.

    Place: what errors name.
    """

    metric: Metric
    rows: int
    dim: int
    batches: Callable[[], Iterable[Batch]]
    place: str

    def vectors(self) -> Iterator[Vectors]:
        """As they're searched, CHUNK at a time, however they were read."""
        waiting: list[Vectors] = []
        for ids, vectors in self.batches():
            waiting.append(exact.prepare(self.metric, ids, vectors, self.place))
            while sum(map(len, waiting)) >= CHUNK:
                joined = np.concatenate(waiting)
                yield joined[:CHUNK]
                waiting = [joined[CHUNK:]]
        if sum(map(len, waiting)):
            yield np.concatenate(waiting)

    def at(self, positions: Positions) -> Vectors:
        """positions: rising -> float32 [n, D]"""
        found, start = [np.empty((0, self.dim), np.float32)], 0
        for vectors in self.vectors():
            found.append(
                vectors[positions[(positions >= start) & (positions < start + len(vectors))] - start]
            )
            start += len(vectors)
        return np.concatenate(found)

    def sample(self, size: int) -> Positions:
        return np.sort(np.random.default_rng(_SEED).choice(self.rows, min(size, self.rows), replace=False))


@dataclass(frozen=True)
class Built:
    """An index that is set to search as widely as it needs, and what that is."""

    index: faiss.Index
    facts: dict[str, Any]


def kind(settings: Index, rows: int) -> Kind:
    """`auto` by the gallery's size: below FLAT_BELOW an exact search is fast, from IVF_FROM on HNSW's graph
    takes long to build.
    """
    if settings.index != "auto":
        return settings.index
    return "flat" if rows < FLAT_BELOW else "hnsw" if rows < IVF_FROM else "ivf"


def is_exact(settings: Index, rows: int) -> bool:
    return kind(settings, rows) == "flat" and settings.storage == "float32"


def build(settings: Index, gallery: Gallery, k: int, setting: str) -> Built:
    """k: depth at which the recall target counts; setting: the row's place in params.yaml, for errors.

    UserError if the gallery is too small for the index, or the index can't reach the target.
    """
    chosen = kind(settings, gallery.rows)
    if chosen == "ivfpq" and gallery.rows < PQ_TRAINED_ON:
        raise UserError(
            f"{setting}.index: ivfpq is trained on {PQ_TRAINED_ON:,} gallery images or more, and there are {gallery.rows:,}; "
            "say flat or hnsw"
        )
    index = faiss.index_factory(
        gallery.dim, _factory_key(chosen, settings, gallery), exact.faiss_metric(gallery.metric)
    )
    with threadpool_limits(limits=1):
        _train(index, gallery)
        _fill(index, gallery)
    facts: dict[str, Any] = {"index": chosen, "storage": settings.storage, "parameters": {}}
    if chosen != "flat":
        parameters, recall = _tune(index, settings, gallery, min(k, gallery.rows), setting)
        facts |= {
            "parameters": parameters,
            "recall_target": settings.target,
            "ann_recall_tuned": round(recall, 4),
        }
    return Built(index, facts)


def recalls(
    found: Positions, queries: Vectors, excluded: Positions, gallery: Gallery, cutoffs: Iterable[int]
) -> dict[str, float]:
    """{"10": recall@10, ...} of what was found, int64 [Q, K], against exact search; over at most 1,000 of the
    queries.

    queries: float32 [Q, D], as they were searched with; excluded: int [E, 2] of (query, gallery position).
    """
    picked = np.sort(
        np.random.default_rng(_SEED).choice(len(queries), min(MEASURED_ON, len(queries)), replace=False)
    )
    kept = excluded[np.isin(excluded[:, 0], picked)]
    kept = np.column_stack([np.searchsorted(picked, kept[:, 0]), kept[:, 1]])
    cutoffs = sorted({min(k, gallery.rows) for k in cutoffs})
    truth = ground_truth.neighbours(gallery.metric, queries[picked], kept, gallery.vectors(), cutoffs[-1])
    return {str(k): round(ground_truth.recall(found[picked], truth, k), 4) for k in cutoffs}


def _factory_key(chosen: Kind, settings: Index, gallery: Gallery) -> str:
    held = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}.get(settings.storage, "")
    # The number of lists that FAISS's guidelines give, each trained on 39 vectors or more.
    lists = max(1, min(int(4 * gallery.rows**0.5), gallery.rows // 39))
    codes = max(parts for parts in range(1, max(2, gallery.dim // 8 + 1)) if gallery.dim % parts == 0)
    refined = f",Refine({held})" if held else ""
    return {
        "flat": held,
        "hnsw": f"HNSW{_LINKS},{held}",
        "ivf": f"IVF{lists},{held}",
        "ivfpq": f"IVF{lists},PQ{codes}{refined}",
    }[chosen]


def _train(index: faiss.Index, gallery: Gallery) -> None:
    lists, size = faiss.try_extract_index_ivf(index), _DECODERS_TRAINED_ON
    if lists is not None:
        lists: Any = faiss.downcast_index(lists)
        lists.cp.niter, lists.cp.min_points_per_centroid = 10, 1
        size = max(39 * lists.nlist, _DECODERS_TRAINED_ON)
        if isinstance(lists, faiss.IndexIVFPQ):
            lists.pq.cp.niter, lists.pq.cp.max_points_per_centroid = 10, 39
            lists.do_polysemous_training = False  # type: ignore[attr-defined]  # for a filter that isn't used; takes minutes
    if not index.is_trained:
        index.train(gallery.at(gallery.sample(size)))  # type: ignore[call-arg]


def _fill(index: Any, gallery: Gallery) -> None:
    """Adds all vectors; memory is taken once, as adding batch by batch would move and hold them twice."""
    if isinstance(index, faiss.IndexRefine):
        _fill_lists(faiss.downcast_index(index.base_index), gallery)
        _fill_codes(faiss.downcast_index(index.refine_index), gallery)
        index.ntotal = gallery.rows
    elif isinstance(index, faiss.IndexIVF):
        _fill_lists(index, gallery)
    else:
        _fill_codes(index, gallery)


def _fill_codes(index: Any, gallery: Gallery) -> None:
    held: Any = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    held.codes.resize(gallery.rows * held.code_size)
    held.codes.resize(0)  # what it took, it keeps
    for vectors in gallery.vectors():
        index.add(vectors)  # type: ignore[call-arg]


def _fill_lists(index: Any, gallery: Gallery) -> None:
    assigned = [index.quantizer.search(vectors, 1)[1].ravel() for vectors in gallery.vectors()]
    for place, size in enumerate(np.bincount(np.concatenate(assigned), minlength=index.nlist).tolist()):
        index.invlists.resize(place, size)
        index.invlists.resize(place, 0)
    for vectors, places in zip(gallery.vectors(), assigned, strict=True):
        index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(places), None)


def _tune(
    index: faiss.Index, settings: Index, gallery: Gallery, k: int, setting: str
) -> tuple[dict[str, int], float]:
    """Sets the cheapest of the ways to search that reaches the target; they're tried from the cheapest on."""
    asked = gallery.sample(TUNED_ON)
    queries, itself = gallery.at(asked), np.column_stack([np.arange(len(asked)), asked])
    truth = ground_truth.neighbours(gallery.metric, queries, itself, gallery.vectors(), k)
    best = -1.0
    for parameters in _ways(index, gallery.rows, k):
        _set(index, parameters)
        reached = ground_truth.recall(exact.nearest(index, queries, k, itself)[0], truth, k)
        if reached >= settings.target:
            _forget_places(index)
            return parameters, reached
        best = max(best, reached)
    advice = "say storage: float32" if settings.storage != "float32" else "say index: flat"
    raise UserError(
        f"{setting}.recall_target is {settings.target}, but index: {settings.index} with storage: {settings.storage} reaches "
        f"{best:.3f} on this gallery at most; lower the target or {advice}"
    )


def _ways(index: Any, rows: int, k: int) -> list[dict[str, int]]:
    """Search parameters, by rising work."""
    if isinstance(index, faiss.IndexHNSW):
        return [
            {"efSearch": width} for width in _steps(k + exact.MARGIN, max(rows, k + exact.MARGIN), 2**0.5)
        ]
    lists = faiss.extract_index_ivf(index)
    if not isinstance(index, faiss.IndexRefine):
        return [{"nprobe": width} for width in _steps(1, lists.nlist, 2**0.5)]
    pairs = itertools.product(_steps(1, lists.nlist, 2), (1, 2, 4, 8, 16, 32))
    refined = faiss.downcast_index(index.refine_index).code_size  # type: ignore[union-attr]
    ordered = sorted(
        (p * rows / lists.nlist * lists.code_size + f * k * refined, p, f) for p, f in pairs
    )  # bytes looked at
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


def _forget_places(index: faiss.Index) -> None:
    """Drops what `search.vectors_at` made for itself, which isn't to be in the file."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        lists.make_direct_map(False)
