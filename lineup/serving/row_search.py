"""Asking a row's gallery by hand, outside the pipeline: with a photo, with words, or with one of its own
images.

A refinement answers a new question as it does the pipeline's: no method needs more than the question and the
gallery.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np

from lineup import paths
from lineup.evaluation import relevance
from lineup.refinements import refinement as refinements
from lineup.refinements import whitening
from lineup.refinements.refinement import Found, Space, Task
from lineup.search import approximate, exact, gallery
from lineup.search.exact import Positions
from lineup.serving import query_encoder
from lineup.serving.gallery_photos import Gallery, Image
from lineup.serving.query_encoder import Model, Vectors
from lineup.settings.params import Params
from lineup.settings.refinement import Approximate, KReciprocal, QueryExpansion, Refinement, Whitening

Question = Callable[[Model], Vectors]  # the vector of what is asked, float32 [1, D], by a model
_ASKED = np.array(["you gave"])


@dataclass(frozen=True)
class Answer:
    """score: higher is nearer, as in a ranking."""

    image: Image
    score: float


@dataclass(frozen=True, eq=False)
class ModelSearch:
    """A row of `models`, searched."""

    model: Model

    @property
    def score_kind(self) -> str:
        return self.model.metric

    def found(self, question: Question, k: int, excluded: Positions) -> Found:
        return Found(*exact.nearest(self.model.index, question(self.model), k, excluded))

    def space(self, question: Question) -> Space:
        return Space(self.model.metric, _ASKED, question(self.model), self.model.index)


@dataclass(frozen=True, eq=False)
class RefinedSearch:
    """A row of `refinements`, from its `from` and `with`.

    depth: of the rankings it is made of; projection: a whitening's.
    """

    settings: Refinement
    first: ModelSearch | RefinedSearch
    second: ModelSearch | RefinedSearch
    depth: int
    index: faiss.Index | None = None
    projection: whitening.Projection | None = None

    @property
    def score_kind(self) -> str:
        return (
            self.second.score_kind
            if hasattr(refinements.method(self.settings), "queries")
            else self.settings.method
        )

    def found(self, question: Question, k: int, excluded: Positions) -> Found:
        depth = max(k, self.depth)
        first = self.first.found(question, depth, excluded)
        second = first if self.second is self.first else self.second.found(question, depth, excluded)
        space = (
            self.space(question)
            if isinstance(self.settings, QueryExpansion | KReciprocal | Whitening | Approximate)
            else None
        )
        positions, scores = refinements.refine(self.settings, Task(first, second, space, excluded, depth))
        return Found(positions[:, :k], scores[:, :k])

    def space(self, question: Question) -> Space:
        """Where the method compares vectors: that of `with`, in the row's own index if it has one, or a
        whitening's own.
        """
        source = self.second.space(question)
        if self.index is None:
            return source
        if self.projection is None:
            return replace(source, index=self.index)
        vectors = exact.prepare(
            source.metric, _ASKED, self.projection.apply(source.queries), "the whitened query"
        )
        return Space(source.metric, _ASKED, vectors, self.index)


@dataclass(frozen=True)
class Row:
    """A row that can be asked, and the images it finds."""

    model: str
    searched: Gallery
    search: ModelSearch | RefinedSearch

    @property
    def metric(self) -> str:
        """What kind of score its answers have: cosine, l2, or a refinement's method that scores in its own
        way.
        """
        return self.search.score_kind

    def nearest(self, question: Question, k: int, without: Sequence[int] = ()) -> list[Answer]:
        """The k nearest, nearest first.

        Without: positions of images to leave out. Each model is asked once.
        """
        excluded = np.array([[0, position] for position in without], np.int64).reshape(-1, 2)
        [positions], [scores] = self.search.found(functools.cache(question), k, excluded)
        pairs = zip(positions, scores, strict=True)
        return [
            Answer(self.searched.image(int(position)), float(score))
            for position, score in pairs
            if position >= 0
        ]


def models_of(row: str, params: Params) -> list[str]:
    """The models that answer for a row, each once: itself, or what a refinement is made of."""
    if row in params.models:
        return [row]
    parts = (params.refinements[row].first, params.refinements[row].second)
    return list(dict.fromkeys(model for part in parts for model in models_of(part, params)))


def open_row(row: str, params: Params, searched: Gallery, opened: Callable[[str], Row] | None = None) -> Row:
    """Loads a row. opened: gives the rows it is made of.

    UserError if a file is not there, or is of other images.
    """
    if row in params.models:
        return Row(row, searched, ModelSearch(query_encoder.load(row, params, searched)))
    settings = params.refinements[row]
    opened = functools.cache(opened or (lambda part: open_row(part, params, searched)))
    first, second = opened(settings.first).search, opened(settings.second).search
    relevant = relevance.load_relevance(params.relevance.exclude)
    depth = relevant.required_depth(params.retrieve.depth, *params.score.cutoffs)
    metric = params.models[models_of(row, params)[0]].search.metric
    if isinstance(settings, Approximate):  # built again, the same: the refine stage keeps none
        indexed = gallery.to_index(paths.embeddings(settings.second), metric)
        index = approximate.build(
            settings, indexed, params.retrieve.depth, f"{paths.PARAMS}: refinements.{row}"
        ).index
        return Row(row, searched, RefinedSearch(settings, first, second, depth, index))
    if not isinstance(settings, Whitening):
        return Row(row, searched, RefinedSearch(settings, first, second, depth))
    gallery.check_ids(paths.embeddings(row), searched.ids)
    index = gallery.index(paths.embeddings(row), metric)
    return Row(
        row, searched, RefinedSearch(settings, first, second, depth, index, _projection(settings, params))
    )


def _projection(settings: Whitening, params: Params) -> whitening.Projection:
    """Learned again on the same vectors: what the refine stage applied is not kept."""
    source, metric = (
        paths.embeddings(settings.first),
        params.models[models_of(settings.first, params)[0]].search.metric,
    )
    return whitening.learn(gallery.prepared(source, metric), gallery.dim(source), settings.dim)
