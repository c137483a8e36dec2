"""The contract of a refinement: a row made of what other rows computed.

A method is one file of this folder, named as `method` in params.yaml, with a class `Method`. It derives from
`Refinement` if it orders images anew, or from `SearchRefinement` if it searches the gallery with vectors of
its own. Its settings, in lineup/settings/refinement.py, declare what it needs and makes. Nothing else knows
it by name.
"""

from __future__ import annotations

import functools
import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from lineup.errors import UserError
from lineup.search import faiss_file, flat_index, gallery, parted_index
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.index_setup import IndexSetup
from lineup.search.parted_index import Searchable
from lineup.search.vectors import Metric, Positions, Vectors
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings
from lineup.settings.refinement_method import MethodSettings
from lineup.storage import files

SOURCE_FILE = "learned_from.json"
INDEX_FILE = "index.faiss"

Settings = TypeVar("Settings", bound=MethodSettings)


@dataclass(frozen=True)
class VectorSpace:
    """The vectors of a row as they are searched.

    query_ids, queries: of Q queries, with vectors float32 [Q, D]; index: of the whole gallery.
    """

    metric: Metric
    query_ids: npt.NDArray[np.str_]
    queries: Vectors
    index: Searchable


@dataclass(frozen=True)
class RefinementInput:
    """What a row is made of.

    first, second: the rankings of `from` and `with`, without excluded images.
    space: the vectors that the method compares; None where it needs none.
    excluded: int64 [E, 2] of (query, gallery position).
    depth: how many images the new ranking has.
    learned: what the method learned, None where it learns nothing.
    """

    first: Hits
    second: Hits
    space: VectorSpace | None
    excluded: Positions
    depth: int
    learned: LearnedSpace | None = None

    def of_query(self, query: int) -> RefinementInput:
        """The input for one of the queries alone."""
        rows = np.array([query])
        space = self.space and replace(
            self.space, query_ids=self.space.query_ids[rows], queries=self.space.queries[rows]
        )
        return replace(
            self,
            first=self.first.of_queries(rows),
            second=self.second.of_queries(rows),
            space=space,
            excluded=self.excluded[self.excluded[:, 0] == query] * [0, 1],
        )

    def vector_space(self) -> VectorSpace:
        """The space of a method that needs vectors."""
        assert self.space is not None, "the method's settings declare needs_vectors"
        return self.space


class LearnedSpace(ABC):
    """What a method learns from the gallery of `with`, once: where the row is searched from then on."""

    @property
    def note(self) -> str | None:
        """A note on this space for the comparison, if there is one."""
        return None

    @property
    def setup(self) -> IndexSetup | None:
        """How an approximate index was built; None for an exact one."""
        return None

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes all that `Method.load` needs, besides the index; the same space gives the same bytes."""

    def transform(self, vectors: Vectors) -> Vectors:
        """Vectors of `with`, float32 [N, D], in this space, float32 [N, D2]."""
        return vectors

    def save_index(self, path: Path, gallery: Gallery) -> None:
        """Writes what is searched: an exact index, whose bytes are those that a model with `index: flat` has.

        gallery: the row's own vectors if the method makes any, else those of `with`.
        """
        flat_index.build_file(
            path, gallery.metric, gallery.dim, gallery.size, gallery.batches(), gallery.source
        )

    def index_bytes(self, folder: Path) -> int:
        """The size of what a service holds in memory to search; folder: what `save_learned` wrote."""
        return (folder / INDEX_FILE).stat().st_size


class Refinement(ABC, Generic[Settings]):
    """A method with the settings of one row."""

    # What a score of the ranking means, for the search page; None if scores are those of a plain search.
    SCORE_MEANING: ClassVar[str | None] = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def learn(self, gallery: Gallery, depth: int, setting: str) -> LearnedSpace | None:
        """What the method learns from the vectors of `with`; None if it learns nothing.

        Args:
            depth: retrieve.depth, at which a recall counts.
            setting: where params.yaml has the row, which errors name.
        """
        return None

    def load(self, folder: Path, metric: Metric, images: int) -> LearnedSpace | None:
        """What `rank` needs of what `learn` returned, as `save` wrote it; images: of the gallery."""
        return None

    @abstractmethod
    def rank(self, given: RefinementInput) -> Hits:
        """The new ranking, by falling score, equal ones by position, at most `given.depth` deep."""

    def query_ms(self, given: RefinementInput) -> float:
        """Mean wall milliseconds that `rank` takes for one query."""
        return mean_ms(lambda query: self.rank(given.of_query(query)), len(given.first.positions))


class SearchRefinement(Refinement[Settings]):
    """A method that searches the gallery with other vectors than the queries' own."""

    @abstractmethod
    def queries(self, given: RefinementInput) -> Vectors:
        """What to search with, float32 [Q, D], as `prepare_vectors` returns it."""

    def rank(self, given: RefinementInput) -> Hits:
        """The nearest images of the method's queries."""
        index = given.vector_space().index
        return parted_index.nearest(index, self.queries(given), given.depth, given.excluded)

    def query_ms(self, given: RefinementInput) -> float:
        """The search is timed by FAISS alone, as `retrieve` times it."""
        making = mean_ms(lambda query: self.queries(given.of_query(query)), len(given.first.positions))
        return making + parted_index.query_ms(given.vector_space().index, self.queries(given), given.depth)


def create(settings: RefinementSettings) -> Refinement[Any]:
    """The method that a row's settings name."""
    return importlib.import_module(f"lineup.refinements.{settings.method}").Method(settings)


def metric_of(row: str, params: Params) -> Metric:
    """How a row's vectors are compared: as those of the model that they come from."""
    return params.models[params.model_of(row)].search.metric


def save_learned(
    folder: Path, learned: LearnedSpace | None, row: str, source: Path, gallery: Gallery | None
) -> None:
    """Writes what a row has learned, and its index; the folder says so where it is nothing.

    Args:
        source: the folder of embeddings that it was learned from.
        gallery: what `LearnedSpace.save_index` takes.
    """
    if learned is None:
        files.write_nothing(folder)
        return
    assert gallery is not None, "what learns has vectors to learn from"

    def write(temporary: Path) -> None:
        temporary.mkdir()
        learned.save(temporary)
        learned.save_index(temporary / INDEX_FILE, gallery)
        files.write_json(temporary / SOURCE_FILE, _learned_from(row, source))

    files.replace_atomically(folder, write)


def load_index(folder: Path, metric: Metric, images: int) -> faiss.Index:
    """The index that `save_learned` wrote, mapped into memory; raises as `faiss_file.load`."""
    return faiss_file.load(folder / INDEX_FILE, metric, images)


def check_learned(folder: Path, row: str, source: Path) -> None:
    """Checks what `save_learned` wrote: a stopped `dvc repro` or a shared cache may leave what does not fit.

    Raises:
        UserError: it does not exist, or was learned by another row or from other vectors.
    """
    if files.read_json(folder / SOURCE_FILE) != _learned_from(row, source):
        raise UserError(
            f"{folder}: was not learned by {row} from the vectors in {source}; "
            f"run `dvc repro -f -s refine@{row}`, then `dvc repro`"
        )


def _learned_from(row: str, source: Path) -> dict[str, Any]:
    return {"refinement": row, "source": gallery.identity(source)}


def mean_ms(run: Callable[[int], object], queries: int, sample: int = 100) -> float:
    """Mean wall milliseconds of run(query), over up to `sample` of the queries, after a warm-up."""
    picked = np.linspace(0, queries - 1, min(sample, queries)).astype(int).tolist()
    for query in picked[:10]:
        run(query)
    start = time.perf_counter()
    for query in picked:
        run(query)
    return (time.perf_counter() - start) * 1000 / len(picked)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Limits linear algebra to one thread.

    With more, its last bits would depend on their number; and small problems are not worth waking them.
    """
    return _thread_pools().limit(limits=1)
