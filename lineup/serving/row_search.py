"""Searches a row's gallery outside the pipeline: with a photo, a text, or one of the gallery's own images.

A refinement ranks a new query as it ranks the pipeline's: no method needs more than the query and the
gallery.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from lineup import paths
from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput, VectorSpace
from lineup.relevance import prepared_relevance
from lineup.search import gallery, parted_index
from lineup.search.hits import Hits
from lineup.search.vectors import Positions, prepare_vectors
from lineup.serving import query_encoder
from lineup.serving.gallery_photos import GalleryPhoto, GalleryPhotos
from lineup.serving.query_encoder import QueryEncoder, Vectors
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings

# Gives a query's vector by one model, float32 [1, D].
EmbedQuery = Callable[[QueryEncoder], Vectors]

_QUERY_IDS = np.array(["you gave"])
_NO_HITS = Hits(np.empty((1, 0), np.int64), np.empty((1, 0), np.float32))
_SCORE_MEANINGS = {
    "cosine": "cosine similarity, 1 is the same direction",
    "l2": "minus the squared distance, 0 is the same vector",
}


@dataclass(frozen=True)
class ScoredPhoto:
    """score: higher is nearer, as in a ranking."""

    photo: GalleryPhoto
    score: float


@dataclass(frozen=True, eq=False)
class ModelSearch:
    """The search of a row of `models`."""

    encoder: QueryEncoder

    @property
    def score_meaning(self) -> str:
        """What a score means, for the search page."""
        return _SCORE_MEANINGS[self.encoder.metric]

    def hits(self, embed: EmbedQuery, k: int, excluded: Positions) -> Hits:
        """The k nearest images of the query."""
        return parted_index.nearest(self.encoder.index, embed(self.encoder), k, excluded)

    def space(self, embed: EmbedQuery) -> VectorSpace:
        """The row's vectors, and the query among them."""
        return VectorSpace(self.encoder.metric, _QUERY_IDS, embed(self.encoder), self.encoder.index)


@dataclass(frozen=True, eq=False)
class RefinedSearch:
    """The search of a row of `refinements`.

    first, second: its `from` and `with`. depth: of the rankings that it is made of.
    learned, index: what its method learned, and where it is searched, if it has an index of its own.
    """

    method: Refinement[Any]
    first: ModelSearch | RefinedSearch
    second: ModelSearch | RefinedSearch
    depth: int
    learned: LearnedSpace | None = None
    index: faiss.Index | None = None

    @property
    def score_meaning(self) -> str:
        """What a score means, for the search page."""
        return self.method.SCORE_MEANING or self.second.score_meaning

    def hits(self, embed: EmbedQuery, k: int, excluded: Positions) -> Hits:
        """The first k images of the refined ranking."""
        depth = max(k, self.depth)
        first = second = _NO_HITS
        if not self.method.settings.builds_index:  # a row with an index of its own reads no other ranking
            first = self.first.hits(embed, depth, excluded)
            second = first if self.second is self.first else self.second.hits(embed, depth, excluded)
        space = self.space(embed) if self.method.settings.needs_vectors else None
        positions, scores = self.method.rank(
            RefinementInput(first, second, space, excluded, depth, self.learned)
        )
        return Hits(positions[:, :k], scores[:, :k])

    def space(self, embed: EmbedQuery) -> VectorSpace:
        """Where the method compares vectors: the row's own space if it has one, else that of `with`."""
        source = self.second.space(embed)
        if self.index is None:
            return source
        vectors = source.queries
        if self.method.settings.makes_vectors:
            assert self.learned is not None, "a method that makes vectors learns how"
            transformed = self.learned.transform(vectors)
            vectors = prepare_vectors(source.metric, _QUERY_IDS, transformed, "the query in the row's space")
        return replace(source, queries=vectors, index=self.index)


@dataclass(frozen=True)
class Row:
    """A row that can be searched, and the photos of its gallery."""

    name: str
    photos: GalleryPhotos
    search: ModelSearch | RefinedSearch

    def nearest(self, embed: EmbedQuery, k: int, excluded: Sequence[int] = ()) -> list[ScoredPhoto]:
        """The k nearest photos, nearest first; each model embeds the query once.

        excluded: positions of photos to leave out.
        """
        pairs = np.array([[0, position] for position in excluded], np.int64).reshape(-1, 2)
        [positions], [scores] = self.search.hits(functools.cache(embed), k, pairs)
        return [
            ScoredPhoto(self.photos.photo(int(position)), float(score))
            for position, score in zip(positions, scores, strict=True)
            if position >= 0
        ]


def models_of(row: str, params: Params) -> list[str]:
    """The models that embed a row's queries, each once: itself, or those that a refinement is made of."""
    if row in params.models:
        return [row]
    sources = (params.refinements[row].first, params.refinements[row].second)
    return list(dict.fromkeys(model for source in sources for model in models_of(source, params)))


def check_own_space(row: str, settings: RefinementSettings, ids: pa.ChunkedArray) -> None:
    """Checks what the `refine` stage wrote for a refinement that has an index of its own.

    Args:
        ids: of the gallery's images.
    Raises:
        UserError: it does not exist, or is not of these images or of the vectors that the row is made of.
    """
    if settings.makes_vectors:
        gallery.check_same_images(paths.embeddings(row), {"gallery": ids})
    if settings.builds_index:
        refinements.check_learned(paths.refinement(row), row, paths.embeddings(settings.second))


def open_row(
    row: str,
    params: Params,
    photos: GalleryPhotos,
    open_source: Callable[[str], Row] | None = None,
    threads: int = 1,
) -> Row:
    """Loads a row; nothing is learned or built.

    Args:
        open_source: gives the rows that a refinement is made of; by default they are loaded, too.
        threads: how many of them will search at once.
    Raises:
        UserError: a file does not exist, or is of other images.
    """
    if row in params.models:
        return Row(row, photos, ModelSearch(query_encoder.load(row, params, photos, threads)))
    settings = params.refinements[row]
    open_source = functools.cache(
        open_source or (lambda source: open_row(source, params, photos, None, threads))
    )
    first, second = open_source(settings.first).search, open_source(settings.second).search
    depth = prepared_relevance.load_relevance(params.relevance.exclude).required_depth(
        params.retrieve.depth, *params.score.cutoffs
    )
    search = RefinedSearch(refinements.create(settings), first, second, depth)
    if settings.builds_index:
        check_own_space(row, settings, photos.ids)
        folder, metric, images = paths.refinement(row), refinements.metric_of(row, params), len(photos.ids)
        learned = search.method.load(folder, metric, images)
        search = replace(search, learned=learned, index=refinements.load_index(folder, metric, images))
    return Row(row, photos, search)
