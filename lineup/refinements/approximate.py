"""The vectors of a row, searched with another index than the row's own: what an approximate search finds.

Nothing is embedded. lineup/search/approximate.py builds the index from the vectors of `with`, as it would for
a row of `models` with these settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss

from lineup.refinements.refinement import LearnedSpace, RefinementInput, SearchRefinement
from lineup.search import approximate, exact
from lineup.search.approximate import IndexSetup
from lineup.search.exact import Metric, Vectors
from lineup.search.gallery import Gallery
from lineup.settings.refinement import Approximate

INDEX_FILE = "index.faiss"


@dataclass(frozen=True)
class OwnIndex(LearnedSpace):
    """The vectors of `with` in an index of this row."""

    searched: faiss.Index
    built_with: IndexSetup | None = None

    @property
    def setup(self) -> IndexSetup | None:
        """How the index was built; None if it was loaded."""
        return self.built_with

    def save(self, folder: Path) -> None:
        """Writes the index."""
        exact.save(folder / INDEX_FILE, self.searched)

    def index(self, gallery: Gallery) -> faiss.Index:
        """The index that was built or loaded."""
        return self.searched


class Method(SearchRefinement[Approximate]):
    """See `Approximate`."""

    def learn(self, gallery: Gallery, depth: int, setting: str) -> OwnIndex:
        """Builds the index."""
        built = approximate.build(self.settings, gallery, depth, setting)
        return OwnIndex(built.index, built.setup)

    def load(self, folder: Path, metric: Metric, images: int) -> OwnIndex:
        """Reads the index."""
        return OwnIndex(exact.load(folder / INDEX_FILE, metric, images))

    def queries(self, given: RefinementInput) -> Vectors:
        """The queries as they are: what differs is the index that they are searched in."""
        return given.vector_space().queries
