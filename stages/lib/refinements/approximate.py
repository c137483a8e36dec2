"""The row's vectors, searched with another index than the row's own: what an approximate search finds.

Nothing is embedded. The index is built from the vectors of `with` by
stages/lib/approximate_search.py, as a row of `models` with these settings has it.
"""

from __future__ import annotations

from stages.lib.refinement_params import Approximate
from stages.lib.refinements import Task
from stages.lib.search import Vectors


def queries(settings: Approximate, task: Task) -> Vectors:
    """float32 [Q, D]: the queries as they are; what differs is the index that they're searched in."""
    assert task.space is not None
    return task.space.queries
