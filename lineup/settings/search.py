"""How a gallery's index is built: exact, or approximate with a recall to reach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lineup.settings.schema import Strict

Kind = Literal["flat", "hnsw", "ivf", "ivfpq", "auto"]
Storage = Literal["float32", "float16", "int8", "pq"]

DEFAULT_RECALL_TARGET = 0.95


class Index(Strict):
    """Which index searches a gallery, and how it stores the vectors."""

    index: Kind = Field(
        description="flat compares every vector, the others only some; auto goes by the gallery's size"
    )
    recall_target: float | None = Field(
        default=None, gt=0, le=1, description="of recall@k against exact search; default: 0.95"
    )
    storage: Storage = Field(
        default="float32", description="of the vectors in the index, from which scores are computed"
    )

    @model_validator(mode="after")
    def _settings_go_together(self) -> Index:
        if self.index == "flat" and self.recall_target is not None:
            raise ValueError(
                "recall_target is for hnsw, ivf, ivfpq and auto; index: flat compares every vector, remove it"
            )
        if self.storage == "pq" and self.index != "ivfpq":
            raise ValueError(
                f"storage: pq goes with index: ivfpq; with index: {self.index} set float32, float16 or int8"
            )
        return self

    @property
    def exact(self) -> bool:
        """Whether the search compares every vector, at full precision."""
        return self.index == "flat" and self.storage == "float32"

    @property
    def target(self) -> float:
        """The recall to reach against exact search."""
        return DEFAULT_RECALL_TARGET if self.recall_target is None else self.recall_target
