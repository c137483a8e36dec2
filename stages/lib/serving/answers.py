"""What the page asks of a row, and what it shows: JSON of the gallery's nearest images."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stages.lib import paths
from stages.lib.query import Gallery, Row, Vectors
from stages.lib.serving import pictures, rooms
from stages.lib.serving.guard import Refusal


@dataclass(frozen=True)
class Photo:
    data: bytes

    def vector(self, row: Row) -> tuple[Vectors, int | None, str]:
        """float32 [1, D], the position of an image to leave out, and the id by which the same file is known."""
        return row.of_photo(self.data), None, hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Words:
    words: str

    def vector(self, row: Row) -> tuple[Vectors, int | None, str]:
        if not self.words.strip():
            raise Refusal(400, "there are no words to search with; type some")
        return row.of_words(self.words.strip()), None, ""


@dataclass(frozen=True)
class OwnImage:
    """One of the gallery's; it isn't among the answers."""

    image_id: str

    def vector(self, row: Row) -> tuple[Vectors, int | None, str]:
        position = row.searched.position(self.image_id)
        if position is None:
            raise Refusal(404, "the gallery has no such image; it may have been taken out")
        return row.of_image(position), position, self.image_id


Question = Photo | Words | OwnImage


def answer(row: Row, question: Question, k: int) -> dict[str, Any]:
    """Raises images.BadImage, UserError or Refusal. asked: the gallery's image that was searched with, null if there is none."""
    start = time.perf_counter()
    vector, without, asked = question.vector(row)
    embedded = time.perf_counter()
    found = row.nearest(vector, k, without)
    done = time.perf_counter()
    position = row.searched.position(asked)
    return {
        "model": row.model,
        "metric": row.metric,
        "gallery": len(row.searched.ids),
        "asked": None if position is None else asdict(row.searched.image(position)),
        "answers": [{**asdict(a.image), "score": a.score, "same_file": a.image.image_id == asked} for a in found],
        "embed_ms": round((embedded - start) * 1000, 1),
        "search_ms": round((done - embedded) * 1000, 1),
    }


def starters(searched: Gallery, count: int) -> list[dict[str, Any]]:
    """Gallery images to begin with, spread evenly over the ids, which are in no order of their own."""
    places = np.unique(np.linspace(0, len(searched.ids) - 1, min(count, len(searched.ids))).astype(int))
    return [asdict(searched.image(int(place))) for place in places]


def warm_up(opened: rooms.Rooms, model: str) -> None:
    """Loads a row and sends one picture through it, so that the first answer is as fast as the next."""
    row = opened.row(model)
    data = pictures.read(paths.images("test"), row.searched.ids[0].as_py())
    if data is not None:
        answer(row, Photo(data), 1)
