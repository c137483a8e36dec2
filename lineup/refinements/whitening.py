"""PCA whitening: x' = (x - mean) P, with P the first principal directions over their standard deviations.

Mean and directions are learned on the gallery; nothing of the queries or of any label is used. With the
cosine metric the vectors have length 1 before, and the whitened ones are compared by cosine again.

Source: Jégou & Chum, ECCV 2012.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lineup.errors import UserError, explained
from lineup.refinements.ordering import Values
from lineup.refinements.refinement import LearnedSpace, RefinementInput, SearchRefinement, one_thread
from lineup.search.gallery import Gallery
from lineup.search.vectors import Metric, Vectors
from lineup.settings.refinement import Whitening
from lineup.storage import files

PROJECTION_FILE = "projection.safetensors"
# Directions of less than this share of the largest variance hold only the rounding of float32.
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Projection(LearnedSpace):
    """mean: float64 [D]; directions: float64 [D, dim]; images: how many vectors it was learned on."""

    mean: Values
    directions: Values
    images: int

    @property
    def note(self) -> str:
        """The number of dimensions, and what they were learned on."""
        dim = self.directions.shape[1]
        return f"PCA whitening to {dim} dimensions, learned on the {self.images} images of the gallery"

    def transform(self, vectors: Vectors) -> Vectors:
        """float32 [N, D] -> float32 [N, dim]."""
        with one_thread():
            return ((vectors - self.mean) @ self.directions).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Writes the projection."""
        tensors = {
            "mean": self.mean,
            "directions": np.ascontiguousarray(self.directions),
            "images": np.array([self.images]),
        }
        save_file(tensors, folder / PROJECTION_FILE)


def learn(batches: Iterable[Vectors], full: int, dim: int) -> Projection:
    """The projection of a gallery's vectors, from one pass over them; it holds full^2 numbers.

    Args:
        batches: float32 [n, full] each, as they are searched.
        dim: dimensions to project to.
    Raises:
        UserError: the gallery varies in fewer dimensions than `dim`.
    """
    count, total, products = 0, np.zeros(full), np.zeros((full, full))
    origin = np.zeros(full)  # near the mean, so that the difference of two large sums loses nothing
    # Eigenvectors differ in their last bits, and by their sign, between numbers of threads.
    with one_thread():
        for batch in batches:
            if len(batch) == 0:
                continue
            if count == 0:
                origin = batch[0].astype(np.float64)
            gaps = batch - origin
            count, total, products = count + len(gaps), total + gaps.sum(axis=0), products + gaps.T @ gaps
        assert count, "an empty gallery is refused before"
        mean = total / count
        variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    varying = int((variances > _LEAST_VARIANCE * max(variances[-1], 0)).sum())
    if dim > varying:
        raise UserError(
            f"whitening's dim is {dim}, but the gallery's {count} vectors of {full} dimensions "
            f"vary in {varying} only; "
            + (f"set dim to {varying} or less" if varying else "there is nothing to whiten")
        )
    variances, directions = variances[::-1][:dim], directions[:, ::-1][:, :dim]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dim)])
    return Projection(origin + mean, directions * signs / np.sqrt(variances), count)


class Method(SearchRefinement[Whitening]):
    """See `Whitening`."""

    def learn(self, gallery: Gallery, depth: int, setting: str) -> Projection:
        """Learns the projection from the gallery's vectors."""
        return learn(gallery.prepared(), gallery.dim, self.settings.dim)

    def load(self, folder: Path, metric: Metric, images: int) -> Projection:
        """Reads the projection."""
        path = folder / PROJECTION_FILE
        if not path.exists():
            raise UserError(f"{path}: does not exist; run `dvc repro`, or `dvc pull` it")
        with explained(f"{path}: is damaged", files.REPAIR):
            tensors = load_file(path)
            return Projection(tensors["mean"], tensors["directions"], int(tensors["images"][0]))

    def queries(self, given: RefinementInput) -> Vectors:
        """The queries of the space as they are: these have been projected."""
        return given.vector_space().queries
