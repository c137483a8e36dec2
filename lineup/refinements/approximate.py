"""The vectors of a row, searched with another index than the row's own: what an approximate search finds.

Nothing is embedded. lineup/search/approximate.py builds the index from the vectors of `with`, as it would for
a row of `models` with these settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss

from lineup.refinements.refinement import LearnedSpace, RefinementInput, SearchRefinement
from lineup.search import approximate, faiss_file
from lineup.search.gallery import Gallery
from lineup.search.index_setup import IndexSetup
from lineup.search.vectors import Vectors
from lineup.settings.refinement import Approximate


@dataclass(frozen=True)
class OwnIndex(LearnedSpace):
    """The vectors of `with` in an index of this row. All that a search needs is the index."""

    searched: faiss.Index
    built_with: IndexSetup

    @property
    def setup(self) -> IndexSetup:
        """How the index was built."""
        return self.built_with

    def save(self, folder: Path) -> None:
        """Writes nothing."""

    def save_index(self, path: Path, gallery: Gallery) -> None:
        """Writes the index."""
        faiss_file.save(path, self.searched)


class Method(SearchRefinement[Approximate]):
    """See `Approximate`."""

    def learn(self, gallery: Gallery, depth: int, setting: str) -> OwnIndex:
        """Builds the index."""
        built = approximate.build(self.settings, gallery, depth, setting)
        return OwnIndex(built.index, built.setup)

    def queries(self, given: RefinementInput) -> Vectors:
        """The queries as they are: what differs is the index that they are searched in."""
        return given.vector_space().queries
