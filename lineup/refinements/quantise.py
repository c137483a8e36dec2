"""Candidates by quantised vectors, which are scored again in float32: what 1 byte or 1 bit a number finds.

int8: each dimension in 256 steps between its least and its greatest value in the gallery. binary: one bit a
dimension, whether the value lies above the gallery's mean; candidates are the nearest by Hamming distance.
`rescore` candidates for each image of the ranking are scored again with the vectors of `with`, and so scores
are those of a plain search. A service holds the quantised vectors in memory and the others on disk.

Source: Shakir, Aarsen & Lee, Binary and Scalar Embedding Quantization, 2024; the rescoring is that of Yamada,
Asai & Hajishirzi, ACL 2021.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import faiss
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from lineup.errors import UserError, explained
from lineup.refinements import ordering
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput
from lineup.search import approximate, faiss_candidates, faiss_file, faiss_search, parted_index
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.index_setup import IndexSetup, StoredAs
from lineup.search.vectors import Metric, Positions, Vectors
from lineup.settings.refinement import Quantise
from lineup.settings.search import Index
from lineup.storage import files

CANDIDATES_FILE = "candidates.faiss"
BITS_FILE = "bits.safetensors"

Codes = npt.NDArray[np.uint8]


class QuantisedSpace(LearnedSpace):
    """The gallery in quantised vectors, which find the candidates."""

    storage: ClassVar[StoredAs]
    rescore: int

    @property
    def setup(self) -> IndexSetup:
        """What is compared, so that its recall against exact search is measured."""
        return IndexSetup("flat", self.storage, {"rescore": self.rescore})

    @abstractmethod
    def candidates(self, queries: Vectors, count: int, excluded: Positions) -> Positions:
        """The nearest images by quantised vectors, in any order.

        Args:
            queries: float32 [Q, D], as they are searched.
            count: how many for each query.
            excluded: int64 [E, 2] of (query, gallery position), which are no candidates.
        Returns:
            int64 [Q, at most count], -1 where there is none.
        """


@dataclass(frozen=True)
class Int8Space(QuantisedSpace):
    """searched: all vectors, in a byte a number."""

    storage = "int8"
    rescore: int
    searched: faiss.Index

    def index_bytes(self, folder: Path) -> int:
        """The size of the quantised vectors."""
        return (folder / CANDIDATES_FILE).stat().st_size

    def save(self, folder: Path) -> None:
        """Writes the quantised vectors."""
        faiss_file.save(folder / CANDIDATES_FILE, self.searched)

    def candidates(self, queries: Vectors, count: int, excluded: Positions) -> Positions:
        """The nearest by the similarity of the query to decoded vectors."""
        return faiss_search.nearest(self.searched, queries, count, excluded)[0]


@dataclass(frozen=True)
class BinarySpace(QuantisedSpace):
    """thresholds: float32 [D], above which a bit is 1; codes: uint8 [G, D / 8 rounded up]."""

    storage = "binary"
    rescore: int
    thresholds: Vectors
    codes: Codes

    def index_bytes(self, folder: Path) -> int:
        """The size of the bits."""
        return self.codes.nbytes

    def save(self, folder: Path) -> None:
        """Writes the thresholds and the bits."""
        save_file({"thresholds": self.thresholds, "codes": self.codes}, folder / BITS_FILE)

    def candidates(self, queries: Vectors, count: int, excluded: Positions) -> Positions:
        """The nearest by Hamming distance; of equally distant ones those that come first in the gallery."""
        codes = bits(queries, self.thresholds)
        chosen = np.full((len(codes), min(count, len(self.codes))), -1, np.int64)
        excluded = excluded[np.argsort(excluded[:, 0], kind="stable")]
        starts = np.searchsorted(excluded[:, 0], np.arange(len(codes) + 1))
        for query, code in enumerate(codes):
            without = excluded[starts[query] : starts[query + 1], 1]
            nearest = _nearest_bits(self.codes, code, chosen.shape[1], without)
            chosen[query, : len(nearest)] = nearest
        return chosen


def _nearest_bits(codes: Codes, code: Codes, count: int, without: Positions) -> Positions:
    """At most `count` positions, by Hamming distance and then position, without some."""
    depth = min(len(codes), count + len(without) + faiss_candidates.MARGIN)
    while True:
        [distances], [positions] = faiss.knn_hamming(code[None], codes, depth)  # type: ignore[attr-defined]
        # All images below the greatest distance are there; of those at that distance perhaps only some.
        settled = depth == len(codes)
        usable = ~np.isin(positions, without) & (settled | (distances < distances[-1]))
        if settled or usable.sum() >= count:
            break
        depth = min(len(codes), 2 * depth)
    distances, positions = distances[usable], positions[usable]
    return positions[np.lexsort((positions, distances))][:count]


def bits(vectors: Vectors, thresholds: Vectors) -> Codes:
    """One bit a dimension: float32 [N, D] -> uint8 [N, D / 8 rounded up]."""
    return np.packbits(vectors > thresholds, axis=1)


def _learn_bits(gallery: Gallery, rescore: int) -> BinarySpace:
    """Two passes over the gallery: one for the mean, which is the threshold, and one for the bits."""
    total = np.zeros(gallery.dim)
    for vectors in gallery.prepared():
        total += vectors.sum(axis=0, dtype=np.float64)
    thresholds = (total / gallery.size).astype(np.float32)
    codes = np.concatenate([bits(vectors, thresholds) for vectors in gallery.prepared()])
    return BinarySpace(rescore, thresholds, codes)


class Method(Refinement[Quantise]):
    """See `Quantise`."""

    def learn(self, gallery: Gallery, depth: int, setting: str) -> QuantisedSpace:
        """Quantises the gallery's vectors."""
        if self.settings.to == "binary":
            return _learn_bits(gallery, self.settings.rescore)
        int8 = Index(index="flat", storage="int8")
        return Int8Space(self.settings.rescore, approximate.build(int8, gallery, depth, setting).index)

    def load(self, folder: Path, metric: Metric, images: int) -> QuantisedSpace:
        """Reads the quantised vectors."""
        if self.settings.to == "int8":
            return Int8Space(self.settings.rescore, faiss_file.load(folder / CANDIDATES_FILE, metric, images))
        path = folder / BITS_FILE
        if not path.exists():
            raise UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it")
        with explained(f"{path}: is damaged", files.REPAIR):
            tensors = load_file(path)
            return BinarySpace(self.settings.rescore, tensors["thresholds"], tensors["codes"])

    def rank(self, given: RefinementInput) -> Hits:
        """The candidates, by their scores in float32."""
        space, learned = given.vector_space(), given.learned
        assert isinstance(learned, QuantisedSpace), "what `learn` or `load` returned"
        positions = learned.candidates(space.queries, self.settings.rescore * given.depth, given.excluded)
        scores = parted_index.pairwise(space.index, space.queries, positions)
        return ordering.best(positions, scores.astype(np.float64), given.depth)
