"""The `refinements` of params.yaml: rows made of what other rows computed; they embed nothing.

`from` is the row whose ranking is refined. `with` is the other row of a fusion, or the row whose vectors a
method compares; a method of one row has the same name in both. What a row hands on to others is its ranking
and, if it is a model or a refinement that makes vectors, its vectors. So a fusion can be re-ranked by the
vectors of one of its models.

A method's settings are one class here, which also declares what the method needs and makes. The method itself
is lineup/refinements/<method>.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lineup.errors import suggest
from lineup.settings.schema import Strict
from lineup.settings.search import Index


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


class ReciprocalRankFusion(MethodSettings):
    """Ranks are added up as 1 / (k + rank); scores do not count."""

    method: Literal["reciprocal_rank_fusion"]
    k: int = Field(default=60, ge=0, le=100_000, description="the larger, the less the first ranks stand out")


class ScoreFusion(MethodSettings):
    """Scores, normalised per query, are averaged.

    An image that only one row ranked counts as the other's last.
    """

    method: Literal["score_fusion"]
    weight: float = Field(default=0.5, ge=0, le=1, description="of `from`; `with` has the rest")
    normalisation: Literal["min_max", "z"] = "min_max"


class QueryExpansion(MethodSettings):
    """alpha-QE: searches with the query plus its n nearest, weighted by similarity to the power of alpha."""

    needs_vectors = True
    searches_second = False

    method: Literal["query_expansion"]
    n: int = Field(default=3, ge=1, le=1_000)
    alpha: float = Field(default=3.0, ge=0, le=100, description="0: a plain average")

    def ranks_read(self) -> dict[str, int]:
        """The images that are added up."""
        return {"n": self.n}


class KReciprocal(MethodSettings):
    """Re-ranking by k-reciprocal encoding of the query and its first candidates."""

    needs_vectors = True
    searches_second = False

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

    def ranks_read(self) -> dict[str, int]:
        """The default of `candidates` may exceed the ranking's depth; a value that is set must not."""
        candidates = {"candidates": self.candidates} if "candidates" in self.model_fields_set else {}
        return {"k1": self.k1, **candidates}


class Whitening(MethodSettings):
    """PCA of the gallery's vectors to `dim` dimensions of equal variance."""

    one_row = True
    needs_vectors = True
    makes_vectors = True
    builds_index = True

    method: Literal["whitening"]
    dim: int = Field(ge=1, le=65_536)


class Truncate(MethodSettings):
    """The first `dim` dimensions of each vector, for models that were trained to be shortened."""

    one_row = True
    needs_vectors = True
    makes_vectors = True
    builds_index = True

    method: Literal["truncate"]
    dim: int = Field(ge=1, le=65_536)


class Quantise(MethodSettings):
    """Candidates by vectors of 1 byte or 1 bit a number, scored again in float32."""

    one_row = True
    needs_vectors = True
    builds_index = True

    method: Literal["quantise"]
    to: Literal["int8", "binary"]
    rescore: int = Field(
        default=4, ge=1, le=1_000, description="candidates for each image of the ranking, scored again"
    )


class ScoreNormalisation(MethodSettings):
    """Scores minus those of the query's neighbourhood, so that one threshold serves all queries."""

    one_row = True

    method: Literal["score_normalisation"]
    share: float = Field(default=1.0, ge=0, le=10, description="of the neighbourhood's mean score")
    first_rank: int = Field(default=11, ge=1, description="the neighbourhood begins behind the right images")
    last_rank: int = Field(default=50, ge=1)

    def ranks_read(self) -> dict[str, int]:
        """The default of `last_rank` may exceed the ranking's depth; a value that is set must not."""
        return {"last_rank": self.last_rank} if "last_rank" in self.model_fields_set else {}

    @model_validator(mode="after")
    def _ranks_rise(self) -> ScoreNormalisation:
        if self.last_rank < self.first_rank:
            raise ValueError(
                f"last_rank is {self.last_rank}, before first_rank {self.first_rank}; set it to more"
            )
        return self


class LocalScaling(MethodSettings):
    """Similarities minus those of both sides' neighbourhoods, which counters hubs (CSLS)."""

    one_row = True
    needs_vectors = True
    builds_index = True

    method: Literal["local_scaling"]
    k: int = Field(default=10, ge=1, le=1_000, description="images in a neighbourhood")


class Approximate(MethodSettings, Index):
    """The row's vectors searched with an approximate index, beside their exact search."""

    one_row = True
    needs_vectors = True
    builds_index = True

    method: Literal["approximate"]

    @model_validator(mode="after")
    def _is_approximate(self) -> Approximate:
        if self.exact:
            raise ValueError(
                "index: flat with storage: float32 is exact; set index to hnsw, ivf, ivfpq or auto, "
                "or set another storage"
            )
        return self


RefinementSettings = Annotated[
    ReciprocalRankFusion
    | ScoreFusion
    | QueryExpansion
    | KReciprocal
    | Whitening
    | Truncate
    | Quantise
    | ScoreNormalisation
    | LocalScaling
    | Approximate,
    Field(discriminator="method"),
]


def check(models: Collection[str], refinements: Mapping[str, RefinementSettings]) -> None:
    """Checks that every refinement can be made, in some order, of rows that hand on what it needs.

    Raises:
        ValueError: one cannot; the message names the setting, the fault and the fix.
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
    _check_cycles({row: (settings.first, settings.second) for row, settings in refinements.items()})
    for row, settings in refinements.items():
        _check_vectors(row, settings, refinements)


def _check_cycles(sources: Mapping[str, tuple[str, str]]) -> None:
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        rows = error.args[1][:0:-1]  # each is made of the next, the last of the first
        start = rows.index(next(row for row in sources if row in rows))
        cycle = [*rows[start:], *rows[: start + 1]]
        raise ValueError(
            f"refinements.{cycle[0]} is made of itself ({' -> '.join(cycle)}); a row can only be made "
            "of rows that do not need it"
        ) from None


def _check_vectors(
    row: str, settings: RefinementSettings, refinements: Mapping[str, RefinementSettings]
) -> None:
    if settings.one_row and settings.first != settings.second:
        raise ValueError(f"refinements.{row}: {settings.method} is of one row; set with: {settings.first}")
    other = refinements.get(settings.second)
    if settings.needs_vectors and other is not None and not other.makes_vectors:
        raise ValueError(
            f"refinements.{row}.with is {settings.second!r}, a {other.method}, which has no vectors for "
            f"{settings.method}; name a model or a refinement that makes vectors, perhaps {other.second!r}"
        )
