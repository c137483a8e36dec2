"""A row of `models`: an encoder, an objective and a search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lineup.settings.encoder import EncoderSettings
from lineup.settings.objective import Objective
from lineup.settings.schema import Strict
from lineup.settings.search import Index
from lineup.settings.sections import Precision


class Search(Index):
    """How a model's vectors are compared and indexed."""

    metric: Literal["cosine", "l2"]
    part_rows: int | None = Field(
        default=None,
        ge=1,
        description="a larger gallery is searched in parts of so many images or fewer; default: in one piece",
    )


class Model(Strict):
    """One row of the comparison table."""

    encoder: EncoderSettings
    objective: Objective
    search: Search
    precision: Precision | None = Field(
        default=None, description="in which the network computes; default: embed.precision"
    )
