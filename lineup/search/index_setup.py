"""How an index was built and tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lineup.settings.search import Kind, Storage

# What an index stores a number of a vector as; only a refinement has bits (refinements/quantise.py).
StoredAs = Storage | Literal["binary"]


@dataclass(frozen=True)
class IndexSetup:
    """How an index was built and tuned.

    index, storage: the values of the settings, without auto. parameters: what FAISS searches with, such as
    {"nprobe": 4}. recall_target, tuned_recall: recall@k that was asked for, and that was reached on vectors
    of the gallery; both None for an index that compares every vector.
    """

    index: Kind
    storage: StoredAs
    parameters: dict[str, int]
    recall_target: float | None = None
    tuned_recall: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the row's costs."""
        described = {"index": self.index, "storage": self.storage, "parameters": self.parameters}
        if self.tuned_recall is None:
            return described
        return {**described, "recall_target": self.recall_target, "ann_recall_tuned": self.tuned_recall}
