"""What a refinement reads of the rows that it is made of: their rankings, and the vectors of `with`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lineup import paths
from lineup.errors import UserError
from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput, VectorSpace
from lineup.relevance import relevance
from lineup.relevance.relevance import Relevance
from lineup.search import gallery
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.vectors import Metric, Vectors, prepare_vectors
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings, rankings


def check_depth(row: str, settings: RefinementSettings, depth: int, images: int) -> None:
    """Checks that the rankings of `from` are as deep as the method reads them.

    Args:
        depth: that of all rankings.
        images: how many the gallery has.
    Raises:
        UserError: they are not, although the gallery has more images.
    """
    for name, ranks in settings.ranks_read().items():
        if depth < min(ranks, images):
            raise UserError(
                f"{paths.PARAMS}: refinements.{row}.{name} is {ranks}, but rankings are {depth} deep; "
                f"set retrieve.depth to {ranks} or more"
            )


def open_gallery(settings: RefinementSettings, params: Params) -> Gallery | None:
    """The gallery's vectors of `with`, if the method needs any."""
    if not settings.needs_vectors:
        return None
    metric = refinements.metric_of(settings.second, params)
    return gallery.open_gallery(paths.embeddings(settings.second), metric)


def read(
    row: str,
    method: Refinement[Any],
    source: Gallery | None,
    learned: LearnedSpace | None,
    images: Relevance,
    depth: int,
) -> RefinementInput:
    """The rankings that the row is made of, and the space in which its method compares vectors.

    Args:
        source: what `open_gallery` returned.
        learned: what the method learned from it, which is already written with the row's index.
        images: the queries and the gallery.
        depth: of the new ranking.
    """
    settings, space = method.settings, None
    if source is not None:
        compared = row if settings.makes_vectors else settings.second
        space = _read_space(compared, source.metric, row if learned else None, images)
    first, second = _read_hits(settings.first, images), _read_hits(settings.second, images)
    return RefinementInput(first, second, space, images.excluded(), depth, learned)


def _read_space(row: str, metric: Metric, index_of: str | None, images: Relevance) -> VectorSpace:
    """The vectors of a row, in an index.

    index_of: the refinement whose stored index is searched; None for an exact index that is built here.
    """
    folder = paths.embeddings(row)
    queries = read_queries(folder, metric, images)
    if index_of is None:
        index = gallery.open_gallery(folder, metric).flat_index()
    else:
        index = refinements.load_index(paths.refinement(index_of), metric, len(images.gallery_ids))
    return VectorSpace(metric, images.query_ids, queries, index)


def read_queries(folder: Path, metric: Metric, images: Relevance) -> Vectors:
    """The vectors of the queries as they are searched, float32 [Q, D]."""
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    queries = embeddings.read_embeddings(folder, "query")
    return prepare_vectors(metric, queries.ids, queries.vectors, str(folder))


def _read_hits(row: str, images: Relevance) -> Hits:
    """The ranking of a row."""
    ranking = rankings.read_ranking(paths.ranking(row))
    return Hits(relevance.gallery_positions(ranking, images, str(paths.ranking(row))), ranking.scores)
