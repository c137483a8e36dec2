"""The `refinements` of params.yaml: rows made of what other rows computed; they embed nothing.

`from` is the row whose ranking is refined. `with` is the other row of a fusion, or the row whose vectors a
method compares; a method of one row has the same name in both. What a row hands on to others is its ranking
and, if it is a model or a whitening, its vectors. So a fusion can be re-ranked by the vectors of one of its
models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lineup.errors import suggest
from lineup.settings.schema import Strict
from lineup.settings.search import Index


class _Rows(Strict):
    first: str = Field(alias="from")
    second: str = Field(alias="with")


class ReciprocalRankFusion(_Rows):
    """Ranks are added up as 1 / (k + rank); scores don't count."""

    method: Literal["reciprocal_rank_fusion"]
    k: int = Field(default=60, ge=0, le=100_000, description="the larger, the less the first ranks stand out")


class ScoreFusion(_Rows):
    """Scores, normalised per query, are averaged.

    An image that only one row found counts as the other's last.
    """

    method: Literal["score_fusion"]
    weight: float = Field(default=0.5, ge=0, le=1, description="of `from`; `with` has the rest")
    normalisation: Literal["min_max", "z"] = "min_max"


class QueryExpansion(_Rows):
    """alpha-QE: the query and its n nearest, weighted by similarity to the power of alpha, are searched with."""

    method: Literal["query_expansion"]
    n: int = Field(default=3, ge=1, le=1_000)
    alpha: float = Field(default=3.0, ge=0, le=100, description="0: a plain average")


class KReciprocal(_Rows):
    """Re-ranking by k-reciprocal encoding of the query and its first candidates."""

    method: Literal["k_reciprocal"]
    k1: int = Field(
        default=20, ge=1, le=1_000, description="neighbours in which two images must find each other"
    )
    k2: int = Field(
        default=6, ge=1, le=1_000, description="neighbours averaged over; 1: none but the image itself"
    )
    lambda_: float = Field(
        default=0.3,
        ge=0,
        le=1,
        alias="lambda",
        description="share of the vectors' own distance; 1: nothing else",
    )
    candidates: int = Field(
        default=100,
        ge=2,
        le=2_000,
        description="how many are re-ranked; memory and time grow with its square",
    )


class Whitening(_Rows):
    """PCA of the gallery's vectors to `dim` dimensions of equal variance."""

    method: Literal["whitening"]
    dim: int = Field(ge=1, le=65_536)


class Approximate(_Rows, Index):
    """The row's vectors searched with an approximate index, beside their exact search."""

    method: Literal["approximate"]

    @model_validator(mode="after")
    def _is_approximate(self) -> Approximate:
        if self.exact:
            raise ValueError(
                "index: flat with storage: float32 is exact; say hnsw, ivf, ivfpq or auto, or another storage"
            )
        return self


Refinement = Annotated[
    ReciprocalRankFusion | ScoreFusion | QueryExpansion | KReciprocal | Whitening | Approximate,
    Field(discriminator="method"),
]

_USE_VECTORS = (QueryExpansion, KReciprocal, Whitening, Approximate)


def check(models: Collection[str], refinements: Mapping[str, Refinement]) -> None:
    """ValueError with place, fault and fix unless every row can be made, in some order, of others that hand
    on what it needs.
    """
    for row in refinements:
        if row in models:
            raise ValueError(f"refinements.{row} is also a row of models; rename one")
    for row, settings in refinements.items():
        for key, other in (("from", settings.first), ("with", settings.second)):
            if other not in models and other not in refinements:
                raise ValueError(
                    f"refinements.{row}.{key} is {other!r}{suggest(other, {*models, *refinements} - {row})}"
                )
    _check_circles({row: (settings.first, settings.second) for row, settings in refinements.items()})
    for row, settings in refinements.items():
        _check_vectors(row, settings, refinements)


def _check_circles(made_of: Mapping[str, tuple[str, str]]) -> None:
    try:
        TopologicalSorter(made_of).prepare()
    except CycleError as error:
        rows = error.args[1][:0:-1]  # each is made of the next, the last of the first
        start = rows.index(next(row for row in made_of if row in rows))
        circle = [*rows[start:], *rows[: start + 1]]
        raise ValueError(
            f"refinements.{circle[0]} is made of itself ({' -> '.join(circle)}); a row can only be made of rows that don't need it"
        ) from None


def _check_vectors(row: str, settings: Refinement, refinements: Mapping[str, Refinement]) -> None:
    if isinstance(settings, Whitening | Approximate) and settings.first != settings.second:
        raise ValueError(f"refinements.{row}: {settings.method} is of one row; say with: {settings.first}")
    other = refinements.get(settings.second)
    if isinstance(settings, _USE_VECTORS) and other is not None and not isinstance(other, Whitening):
        raise ValueError(
            f"refinements.{row}.with is {settings.second!r}, a {other.method}, which has no vectors for {settings.method}; "
            f"name a model or a whitening, perhaps {other.second!r}"
        )
