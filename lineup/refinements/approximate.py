"""The row's vectors, searched with another index than the row's own: what an approximate search finds.

Nothing is embedded. The index is built from the vectors of `with` by
lineup/search/approximate.py, as a row of `models` with these settings has it.
"""

from __future__ import annotations

from lineup.refinements.refinement import Task
from lineup.search.exact import Vectors
from lineup.settings.refinement import Approximate


def queries(settings: Approximate, task: Task) -> Vectors:
    """float32 [Q, D]: the queries as they are; what differs is the index that they're searched in."""
    assert task.space is not None
    return task.space.queries
