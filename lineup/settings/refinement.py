"""The `refinements` of params.yaml: rows made of what other rows computed; they embed nothing.

`from` is the row whose ranking is refined. `with` is the other row of a fusion, or the row whose vectors a
method compares; a method of one row has the same name in both. What a row hands on to others is its ranking
and, if it is a model or a refinement that makes vectors, its vectors. So a fusion can be re-ranked by the
vectors of one of its models.

The settings of a method are one class here, whose base declares what the method needs and makes. The method
itself is lineup/refinements/<method>.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lineup.settings.refinement_method import MethodSettings, OwnIndex, OwnVectors
from lineup.settings.search import Index


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


class Whitening(OwnVectors):
    """PCA of the gallery's vectors to `dim` dimensions of equal variance."""

    method: Literal["whitening"]
    dim: int = Field(ge=1, le=65_536)


class Truncate(OwnVectors):
    """The first `dim` dimensions of each vector, for models that were trained to be shortened."""

    method: Literal["truncate"]
    dim: int = Field(ge=1, le=65_536)


class Quantise(OwnIndex):
    """Candidates by vectors of 1 byte or 1 bit a number, scored again in float32."""

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


class LocalScaling(OwnIndex):
    """Similarities minus those of both sides' neighbourhoods, which counters hubs (CSLS)."""

    method: Literal["local_scaling"]
    k: int = Field(default=10, ge=1, le=1_000, description="images in a neighbourhood")


class Approximate(OwnIndex, Index):
    """The row's vectors searched with an approximate index, beside their exact search."""

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
