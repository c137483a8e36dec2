"""What the page asks of a row, and what it shows: JSON of the gallery's nearest images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lineup import paths
from lineup.photos import prepared_images
from lineup.serving import row_pool, row_search
from lineup.serving.decoder import Photo
from lineup.serving.gallery_photos import Gallery
from lineup.serving.query_encoder import Model, Vectors
from lineup.serving.row_search import Row
from lineup.serving.security import Refusal


@dataclass(frozen=True)
class Asked:
    """itself: the position of the gallery's image that it is, None if it is none; left_out: positions of
    those that are no answers.

    decoding_seconds: what decoding it took before.
    """

    vector: row_search.Question
    itself: int | None = None
    left_out: Sequence[int] = ()
    decoding_seconds: float = 0


Question = Callable[[Gallery], Asked]


def photo(decoded: Photo) -> Question:
    def ask(searched: Gallery) -> Asked:
        position = searched.position(decoded.image_id)
        return Asked(
            lambda model: model.of_prepared(decoded.image_id, decoded.content),
            position,
            decoding_seconds=decoded.seconds,
        )

    return ask


def words(text: str) -> Question:
    if not text.strip():
        raise Refusal(400, "there are no words to search with; type some")
    return lambda _: Asked(lambda model: model.of_words(text.strip()))


def own_image(image_id: str) -> Question:
    """One of the gallery's; neither it nor what else counts as it is among the answers."""

    def ask(searched: Gallery) -> Asked:
        position = searched.position(image_id)
        if position is None:
            raise Refusal(404, "the gallery has no such image; it may have been taken out")
        return Asked(
            lambda model: model.of_image(position),
            position,
            searched.itself(image_id, searched.pixels_id(position)),
        )

    return ask


def answer(row: Row, question: Question, k: int) -> dict[str, Any]:
    """Raises UserError or Refusal.

    asked: the gallery's image that was searched with, null if there is none.
    """
    asked, embedding = question(row.searched), 0.0

    def vector(model: Model) -> Vectors:
        nonlocal embedding
        start = time.perf_counter()
        made = asked.vector(model)
        embedding += time.perf_counter() - start
        return made

    start = time.perf_counter()
    found = row.nearest(vector, k, asked.left_out)
    seconds = time.perf_counter() - start
    itself = None if asked.itself is None else row.searched.image(asked.itself)
    return {
        "model": row.model,
        "metric": row.metric,
        "gallery": len(row.searched.ids),
        "asked": itself and asdict(itself),
        "copies_left_out": max(0, len(asked.left_out) - 1),  # beside the one that was asked with
        "answers": [{**asdict(a.image), "score": a.score, "same_file": a.image == itself} for a in found],
        "embed_ms": round((asked.decoding_seconds + embedding) * 1000, 1),
        "search_ms": round((seconds - embedding) * 1000, 1),
    }


def starters(searched: Gallery, count: int) -> list[dict[str, Any]]:
    """Gallery images to begin with, spread evenly over the ids, which are in no order of their own."""
    places = np.unique(np.linspace(0, len(searched.ids) - 1, min(count, len(searched.ids))).astype(int))
    return [asdict(searched.image(int(place))) for place in places]


def warm_up(opened: row_pool.Rooms, row: str) -> None:
    """Loads a row and sends one picture through it, so that the first answer is as fast as the next."""
    ready = opened.row(row)
    image_id = ready.searched.ids[0].as_py()
    data = prepared_images.read(paths.images("test"), image_id)
    if data is not None:
        answer(ready, photo(Photo(image_id, data, 0)), 1)
