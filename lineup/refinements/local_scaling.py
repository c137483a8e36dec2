"""Local scaling (CSLS): a similarity counts for less where the query and the image are similar to many.

csls(q, x) = 2 s(q, x) - r(q) - r(x), where r is the mean similarity to the k nearest gallery images, without
the image itself. It counters hubs, images that are near to everything.

Only the nearest images by similarity are ranked anew, as deep as the ranking is.

Source: Conneau et al., Word Translation Without Parallel Data, ICLR 2018, section 2.3. There an image's
neighbourhood is that of the other side; it is the gallery here, so that a query's ranking does not depend on
other queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lineup.errors import UserError, explained
from lineup.refinements import ordering
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput
from lineup.search import faiss_search, parted_index
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.vectors import Metric, Vectors
from lineup.settings.refinement import LocalScaling
from lineup.storage import files

SIMILARITIES_FILE = "neighbourhoods.safetensors"


@dataclass(frozen=True)
class Neighbourhoods(LearnedSpace):
    """similarity: float32 [G], of each gallery image to its neighbours on average."""

    similarity: Vectors

    def save(self, folder: Path) -> None:
        """Writes the similarities."""
        save_file({"similarity": self.similarity}, folder / SIMILARITIES_FILE)


def learn(gallery: Gallery, k: int) -> Neighbourhoods:
    """Searches the gallery with each of its images; it takes time with the square of their number."""
    index, means, start = gallery.flat_index(), [np.empty(0, np.float32)], 0
    for vectors in gallery.chunks():
        rows = np.arange(len(vectors))
        itself = np.column_stack([rows, start + rows])
        _, scores = faiss_search.nearest(index, vectors, k, itself)
        means.append(_mean(scores))
        start += len(vectors)
    return Neighbourhoods(np.concatenate(means))


def _mean(scores: Vectors) -> Vectors:
    """The mean over a ranking, float32 [Q, K] -> float32 [Q]; 0 for one without any image."""
    ranked = ~np.isnan(scores)
    total = np.where(ranked, scores.astype(np.float64), 0).sum(axis=1)
    return (total / np.maximum(ranked.sum(axis=1), 1)).astype(np.float32)


class Method(Refinement[LocalScaling]):
    """See `LocalScaling`."""

    SCORE_MEANING = "twice the similarity, minus those of both neighbourhoods"

    def learn(self, gallery: Gallery, depth: int, setting: str) -> Neighbourhoods:
        """Measures the neighbourhood of every gallery image."""
        return learn(gallery, self.settings.k)

    def load(self, folder: Path, metric: Metric, images: int) -> Neighbourhoods:
        """Reads the neighbourhoods."""
        path = folder / SIMILARITIES_FILE
        if not path.exists():
            raise UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it")
        with explained(f"{path}: is damaged", files.REPAIR):
            return Neighbourhoods(load_file(path)["similarity"])

    def rank(self, given: RefinementInput) -> Hits:
        """Searches, and orders what the search returns by the scaled similarity."""
        space, learned = given.vector_space(), given.learned
        assert isinstance(learned, Neighbourhoods), "what `learn` or `load` returned"
        depth = max(given.depth, self.settings.k)
        positions, scores = parted_index.nearest(space.index, space.queries, depth, given.excluded)
        own = _mean(scores[:, : self.settings.k]).astype(np.float64)[:, None]
        of_images = np.where(positions >= 0, learned.similarity[positions], np.nan).astype(np.float64)
        return ordering.best(positions, 2 * scores.astype(np.float64) - own - of_images, given.depth)
