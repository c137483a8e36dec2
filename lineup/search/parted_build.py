"""Approximate indexes of galleries that are divided into parts: one index for each part.

They are built one after the other, or by the workers of the Ray cluster where RAY_ADDRESS names one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lineup import cluster
from lineup.errors import UserError
from lineup.search import approximate, index_file, part_workers
from lineup.search.approximate import Built
from lineup.search.gallery import Gallery
from lineup.search.index_file import Bytes
from lineup.search.index_setup import IndexSetup
from lineup.search.part_workers import PartTask
from lineup.search.vectors import Metric, Vectors
from lineup.settings.search import Index


def build_file(
    path: Path, settings: Index, gallery: Gallery, k: int, setting: str, part_rows: int | None
) -> IndexSetup:
    """Writes the file of an approximate index; arguments and errors as of `approximate.build`.

    A gallery of more than `part_rows` images has an index for each of its parts, tuned by itself. Two parts
    are in memory at most: the vectors of one, and its index.

    Returns:
        Of several parts the widest search parameters, and the least recall that they were tuned to.
    """
    parts = index_file.number_of_parts(gallery.size, part_rows)
    setups: list[IndexSetup] = []

    def indexes() -> Iterator[faiss.Index]:
        for built in build(settings, gallery, k, setting, parts):
            setups.append(built.setup)
            yield built.index

    index_file.save(path, indexes(), parts)
    return _combined(setups)


def build(settings: Index, gallery: Gallery, k: int, setting: str, parts: int) -> Iterator[Built]:
    """The index of each part; the kind of index follows from the size of the whole gallery.

    What `index: flat` stores is the same in parts as in one piece: its codes are learned once.
    """
    if parts == 1:
        yield approximate.build(settings, gallery, k, setting)
        return
    chosen = approximate.kind(settings, gallery.size)
    settings = settings.model_copy(update={"index": chosen})
    smallest = gallery.size // parts
    if chosen == "ivfpq" and smallest < approximate.PQ_TRAINING_IMAGES:
        raise UserError(
            f"{setting}.part_rows: ivfpq is trained on {approximate.PQ_TRAINING_IMAGES:,} gallery images or "
            f"more, and a part has {smallest:,}; "
            f"set part_rows to {2 * approximate.PQ_TRAINING_IMAGES:,} or more"
        )
    empty = approximate.trained(settings, gallery) if chosen == "flat" else None
    galleries = gallery.parts(index_file.starts(gallery.size, parts))
    if cluster.address() is None:
        for part in galleries:
            yield approximate.build(settings, part, k, setting, empty)
            del part  # or it would stay in memory while the next one is read
    else:
        yield from _on_cluster(
            galleries, parts, (settings, k, setting, empty and faiss.serialize_index(empty))
        )


def _on_cluster(galleries: Iterable[Gallery], parts: int, shared: tuple[Any, ...]) -> Iterator[Built]:
    """The indexes of the parts, built by the workers of the Ray cluster."""
    tasks = (
        PartTask(number, 4 * part.size * part.dim, partial(_in_memory, part))
        for number, part in enumerate(galleries)
    )
    for data, setup in part_workers.run(_build_on_one_processor, tasks, parts, shared, in_order=True):
        yield Built(index_file.opened(data), setup)


def _in_memory(part: Gallery) -> tuple[Metric, str, list[str], Vectors]:
    """What `_build_on_one_processor` makes the part's gallery of."""
    ids, vectors = zip(*part.batches(), strict=True)
    return part.metric, part.source, [*chain.from_iterable(ids)], np.concatenate(vectors)


def _build_on_one_processor(
    metric: Metric,
    source: str,
    ids: list[str],
    vectors: Vectors,
    settings: Index,
    k: int,
    setting: str,
    empty: Bytes | None,
) -> tuple[Bytes, IndexSetup]:
    """The bytes of a part's index, and how it was built."""
    faiss.omp_set_num_threads(1)
    part = Gallery(metric, len(ids), vectors.shape[1], lambda: [(ids, vectors)], source)
    built = approximate.build(
        settings, part, k, setting, None if empty is None else faiss.deserialize_index(empty)
    )
    return faiss.serialize_index(built.index), built.setup


def _combined(setups: list[IndexSetup]) -> IndexSetup:
    if len(setups) == 1:
        return setups[0]
    recalls = [setup.tuned_recall for setup in setups if setup.tuned_recall is not None]
    return replace(
        setups[0],
        parameters={name: max(setup.parameters[name] for setup in setups) for name in setups[0].parameters}
        | {"parts": len(setups)},
        tuned_recall=min(recalls, default=None),
    )
