"""A search of the page, from what the page sends to the response that it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lineup import paths
from lineup.evaluation.thresholds import Threshold
from lineup.photos import prepared_images
from lineup.serving import row_pool
from lineup.serving.decoder import DecodedPhoto
from lineup.serving.gallery_photos import GalleryPhoto, GalleryPhotos
from lineup.serving.query_encoder import QueryEncoder, Vectors
from lineup.serving.row_search import EmbedQuery, Row
from lineup.web.security import Refusal


@dataclass(frozen=True)
class ResolvedQuery:
    """A query, and which gallery images count as it.

    embed: gives its vector by one model.
    position: of the gallery image that it is; None if the gallery does not have it.
    excluded: positions of the images that are left out as the query itself.
    decoding_seconds: how long it took to decode its photo.
    is_text: whether it is a text, whose scores no photo's threshold fits.
    """

    embed: EmbedQuery
    position: int | None = None
    excluded: Sequence[int] = ()
    decoding_seconds: float = 0
    is_text: bool = False


ResolveQuery = Callable[[GalleryPhotos], ResolvedQuery]


@dataclass(frozen=True)
class Result(GalleryPhoto):
    """A photo that a search gives. same_file: it is the gallery image that was searched with."""

    score: float
    same_file: bool


@dataclass(frozen=True)
class SearchResponse:
    """The JSON that the page gets for a search.

    gallery: how many images were searched.
    query_image: the gallery image that was searched with; None if it was none.
    threshold: the least score of a result; None where there is none.
    best_score: that of the nearest photo, even if it is below the threshold; None without any.
    excluded_copies: how many images were left out as copies of the query.
    results: nearest first.
    embed_ms, search_ms: milliseconds for the query's vector, and for the search.
    """

    row: str
    score_meaning: str
    gallery: int
    query_image: GalleryPhoto | None
    threshold: float | None
    best_score: float | None
    excluded_copies: int
    results: list[Result]
    embed_ms: float
    search_ms: float


def photo_query(decoded: DecodedPhoto) -> ResolveQuery:
    """A photo from outside the gallery, which may be among its own results."""

    def resolve(photos: GalleryPhotos) -> ResolvedQuery:
        return ResolvedQuery(
            lambda encoder: encoder.embed_prepared(decoded.image_id, decoded.content),
            photos.position(decoded.image_id),
            decoding_seconds=decoded.seconds,
        )

    return resolve


def text_query(text: str) -> ResolveQuery:
    """A text. Raises Refusal if it is empty."""
    if not text.strip():
        raise Refusal(400, "there are no words to search with; type some")
    return lambda _: ResolvedQuery(lambda encoder: encoder.embed_text(text.strip()), is_text=True)


def gallery_query(image_id: str) -> ResolveQuery:
    """One of the gallery's images; it and all that count as the same are left out of the results."""

    def resolve(photos: GalleryPhotos) -> ResolvedQuery:
        position = photos.position(image_id)
        if position is None:
            raise Refusal(404, "the gallery has no such image; it may have been removed")
        return ResolvedQuery(
            lambda encoder: encoder.gallery_vector(position),
            position,
            photos.self_matches(image_id, photos.pixels_id(position)),
        )

    return resolve


def search(row: Row, resolve: ResolveQuery, k: int, threshold: Threshold | None = None) -> SearchResponse:
    """The k nearest photos of a row. Raises UserError or Refusal."""
    query, embedding_seconds = resolve(row.photos), 0.0
    if threshold and query.is_text:
        threshold.check_text()
    least = threshold.of_row(row.name) if threshold else None

    def timed_embed(encoder: QueryEncoder) -> Vectors:
        nonlocal embedding_seconds
        start = time.perf_counter()
        vector = query.embed(encoder)
        embedding_seconds += time.perf_counter() - start
        return vector

    start = time.perf_counter()
    nearest = row.nearest(timed_embed, k, query.excluded)
    seconds = time.perf_counter() - start
    query_image = None if query.position is None else row.photos.photo(query.position)
    return SearchResponse(
        row=row.name,
        score_meaning=row.search.score_meaning,
        gallery=len(row.photos.ids),
        query_image=query_image,
        threshold=least,
        best_score=nearest[0].score if nearest else None,
        excluded_copies=max(0, len(query.excluded) - 1),  # without the query itself
        results=[
            Result(**vars(each.photo), score=each.score, same_file=each.photo == query_image)
            for each in nearest
            if least is None or each.score >= least
        ],
        embed_ms=round((query.decoding_seconds + embedding_seconds) * 1000, 1),
        search_ms=round((seconds - embedding_seconds) * 1000, 1),
    )


def starters(photos: GalleryPhotos, count: int) -> list[GalleryPhoto]:
    """Gallery photos to offer as first queries, spread evenly over the ids, whose order is arbitrary."""
    size = len(photos.ids)
    positions = np.unique(np.linspace(0, size - 1, min(count, size)).astype(int))
    return [photos.photo(int(position)) for position in positions]


def warm_up(pool: row_pool.RowPool, row: str) -> None:
    """Loads a row and searches with one photo, so that the first search is as fast as the next."""
    loaded = pool.row(row)
    image_id = loaded.photos.ids[0].as_py()
    data = prepared_images.read(paths.images("test"), image_id)
    if data is not None:
        search(loaded, photo_query(DecodedPhoto(image_id, data, 0)), 1)
