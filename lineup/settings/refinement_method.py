"""What the method of a refinement declares: what it is made of, and what it makes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lineup.settings.schema import Strict


class MethodSettings(Strict):
    """The two rows that a refinement is made of, and what its method declares.

    one_row: `from` and `with` must be the same row.
    needs_vectors: the method compares the vectors of `with`.
    makes_vectors: the row has vectors of its own, which others can refine.
    builds_index: the row's own index is searched, instead of the indexes of the rows that it is made of.
    searches_second: a query costs the search of `with`, too, since its ranking is needed.
    """

    one_row: ClassVar[bool] = False
    needs_vectors: ClassVar[bool] = False
    makes_vectors: ClassVar[bool] = False
    builds_index: ClassVar[bool] = False
    searches_second: ClassVar[bool] = True

    first: str = Field(alias="from")
    second: str = Field(alias="with")

    def ranks_read(self) -> dict[str, int]:
        """How deep the ranking of `from` must be: ranks by the name of the setting that asks for them."""
        return {}


class OwnIndex(MethodSettings):
    """A method that searches the vectors of one row in an index of its own."""

    one_row = True
    needs_vectors = True
    builds_index = True


class OwnVectors(OwnIndex):
    """A method that makes vectors of those of one row."""

    makes_vectors = True
