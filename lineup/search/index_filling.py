"""The vectors of a gallery, added to an index that has been trained."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from lineup.search.gallery import Gallery


def fill(index: Any, gallery: Gallery) -> None:
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
