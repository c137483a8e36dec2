"""The first dimensions of the vectors of `with`, which models that were trained for it keep most of.

With the cosine metric the shortened vectors have length 1 again.

Source: Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lineup.errors import UserError
from lineup.refinements.refinement import LearnedSpace, RefinementInput, SearchRefinement
from lineup.search.gallery import Gallery
from lineup.search.vectors import Metric, Vectors
from lineup.settings.refinement import Truncate


@dataclass(frozen=True)
class FirstDimensions(LearnedSpace):
    """dim: how many dimensions stay; it follows from the settings, and so no file holds it."""

    metric: Metric
    dim: int

    @property
    def note(self) -> str:
        """The number of dimensions."""
        return f"the first {self.dim} dimensions of each vector"

    def transform(self, vectors: Vectors) -> Vectors:
        """float32 [N, D] -> float32 [N, dim]. UserError if nothing is left of a vector."""
        shortened = vectors[:, : self.dim]
        if self.metric == "cosine" and not shortened.any(axis=1).all():
            raise UserError(
                f"truncate's dim is {self.dim}, but all of a vector's first {self.dim} numbers are zero, "
                "which has no direction; set dim to more"
            )
        return shortened

    def save(self, folder: Path) -> None:
        """Writes nothing."""


class Method(SearchRefinement[Truncate]):
    """See `Truncate`."""

    def learn(self, gallery: Gallery, depth: int, setting: str) -> FirstDimensions:
        """Checks that the vectors are long enough. UserError if they are not."""
        if self.settings.dim > gallery.dim:
            raise UserError(
                f"{setting}.dim is {self.settings.dim}, but the vectors of {self.settings.second} have "
                f"{gallery.dim} dimensions; set dim to less than {gallery.dim}"
            )
        return FirstDimensions(gallery.metric, self.settings.dim)

    def load(self, folder: Path, metric: Metric, images: int) -> FirstDimensions:
        """The space; it is made of the settings alone."""
        return FirstDimensions(metric, self.settings.dim)

    def queries(self, given: RefinementInput) -> Vectors:
        """The queries of the space as they are: these have been shortened."""
        return given.vector_space().queries
