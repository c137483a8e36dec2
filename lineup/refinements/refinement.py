"""What every method of refinement shares. A method is one file, found by its name in params.yaml.

A method's file has one of two functions:
    refine(settings, task) -> Found       a new order of what was found
    queries(settings, task) -> Vectors    what to search with instead of the queries' own vectors
"""

from __future__ import annotations

import functools
import importlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from lineup.search import exact
from lineup.search.exact import Positions, Vectors
from lineup.settings.refinement import Refinement

Values = npt.NDArray[np.float64]


class Found(NamedTuple):
    """By rank: places in the whole gallery, int64 [Q, K], -1 behind a ranking's end.

    Scores, float32 [Q, K], NaN there.
    """

    positions: Positions
    scores: Vectors

    def only(self, queries: Positions) -> Found:
        return Found(self.positions[queries], self.scores[queries])


@dataclass(frozen=True)
class Space:
    """The vectors of a row as they're searched. queries: float32 [Q, D]; index: of the whole gallery."""

    metric: exact.Metric
    query_ids: npt.NDArray[np.str_]
    queries: Vectors
    index: faiss.Index


@dataclass(frozen=True)
class Task:
    """What a row is made of. first, second: the rankings of `from` and `with`, without what is excluded.

    space: the vectors of `with`; None for methods of rankings alone. excluded: int [E, 2] of (query,
        gallery).
    k: depth of the new ranking.
    """

    first: Found
    second: Found
    space: Space | None
    excluded: Positions
    k: int

    def only(self, query: int) -> Task:
        """The same for one query."""
        rows = np.array([query])
        space = self.space and replace(
            self.space, query_ids=self.space.query_ids[rows], queries=self.space.queries[rows]
        )
        excluded = self.excluded[self.excluded[:, 0] == query] * [0, 1]
        return replace(
            self, first=self.first.only(rows), second=self.second.only(rows), space=space, excluded=excluded
        )


@functools.cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """For linear algebra whose last bits differ between numbers of threads, or that's too small to be worth
    waking them.
    """
    return _thread_pools().limit(limits=1)


def method(settings: Refinement) -> ModuleType:
    return importlib.import_module(f"lineup.refinements.{settings.method}")


def refine(settings: Refinement, task: Task) -> Found:
    """The new ranking, by falling score, equal ones by place in the gallery, at most `task.k` deep."""
    module = method(settings)
    if not hasattr(module, "queries"):
        return module.refine(settings, task)
    assert task.space is not None, f"{settings.method} needs vectors"
    return Found(*exact.nearest(task.space.index, module.queries(settings, task), task.k, task.excluded))


def ordered(positions: Positions, scores: Values, k: int) -> Found:
    """The k best of candidates in any order, [Q, C], -1 where there is none; fewer where there are fewer.

    Scores are compared as they're written, in float32, so that equal ones stand in the order of their
    image_id.
    """
    written = scores.astype(np.float32)
    order = np.lexsort((positions, -written, positions < 0), axis=-1)[:, :k]
    positions, written = (
        np.take_along_axis(positions, order, axis=1),
        np.take_along_axis(written, order, axis=1),
    )
    width = int((positions >= 0).sum(axis=1).max(initial=0))
    return Found(positions[:, :width], np.where(positions < 0, np.float32(np.nan), written)[:, :width])


def added(
    first: Positions, gains: Values, second: Positions, other_gains: Values
) -> tuple[Positions, Values]:
    """Every image that either ranking holds, once, with the sum of its gains.

    Both [Q, K1 + K2], -1 where there is none.
    """
    positions, values = np.concatenate([first, second], axis=1), np.concatenate([gains, other_gains], axis=1)
    order = np.argsort(positions, axis=1, kind="stable")
    positions, values = (
        np.take_along_axis(positions, order, axis=1),
        np.take_along_axis(values, order, axis=1),
    )
    twice = (positions[:, 1:] == positions[:, :-1]) & (positions[:, 1:] >= 0)
    values[:, :-1] += np.where(twice, values[:, 1:], 0)
    positions[:, 1:][twice] = -1
    return positions, values
