"""What a refinement costs: its own index, and the time that it takes for a query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineup import machine, paths
from lineup.refinements.refinement import LearnedSpace, Refinement, RefinementInput, mean_ms
from lineup.search import ground_truth
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.index_setup import IndexSetup
from lineup.search.vectors import Vectors
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings


@dataclass(frozen=True)
class IndexCosts:
    """What the index of a refinement takes.

    dim: the numbers in each vector.
    index_mb: megabytes that a service holds in memory to search.
    note: the learned space's, for the comparison.
    setup, recalls: how an approximate index was built, and its recall@k against exact search by k; None of an
    exact one.
    """

    dim: int
    index_mb: float
    note: str | None
    setup: IndexSetup | None
    recalls: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Its part of data/costs/<row>/refine.json; what is None is left out."""
        optional = {
            "note": self.note,
            "search": self.setup and self.setup.as_json(),
            "ann_recall": self.recalls,
        }
        return {
            "dim": self.dim,
            "index_mb": self.index_mb,
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class QueryCosts:
    """Mean wall milliseconds of one query, beyond those in the rows that the refinement is made of.

    query_ms: all of them. transform_ms: the part in which the query's vector is brought into the row's own
    space; None where the row makes no vectors. It is given apart, since a row that uses these vectors without
    searching them pays for it, too.
    """

    query_ms: float
    transform_ms: float | None = None

    def to_json(self) -> dict[str, float]:
        """Its part of data/costs/<row>/refine.json; what is None is left out."""
        if self.transform_ms is None:
            return {"query_ms": self.query_ms}
        return {"query_ms": self.query_ms, "transform_ms": self.transform_ms}


def of_index(
    learned: LearnedSpace,
    folder: Path,
    given: RefinementInput,
    source: Gallery,
    hits: Hits,
    cutoffs: Iterable[int],
) -> IndexCosts:
    """Measures the index that a refinement searches.

    Args:
        folder: what `save_learned` wrote of the learned space.
        given: what the row is made of; its space has that index.
        source: the gallery of `with`, by which the recall of an approximate index is measured.
        hits: the row's ranking.
        cutoffs: of the recalls.
    """
    space = given.vector_space()
    recalls = None
    if learned.setup is not None:
        recalls = ground_truth.recalls(hits.positions, space.queries, given.excluded, source, cutoffs)
    index_mb = round(learned.index_bytes(folder) / 1e6, 3)
    return IndexCosts(space.index.d, index_mb, learned.note, learned.setup, recalls)


def of_query(method: Refinement[Any], given: RefinementInput, queries: Vectors | None) -> QueryCosts:
    """Times a refinement, query by query.

    Args:
        given: what the row is made of.
        queries: the vectors of `with`, float32 [Q, D], where the method transforms them; else None.
    """
    query_ms = method.query_ms(given)
    if queries is None or given.learned is None:
        return QueryCosts(round(query_ms, 4))
    transform = given.learned.transform
    transform_ms = mean_ms(lambda query: transform(queries[query : query + 1]), len(queries))
    return QueryCosts(round(transform_ms + query_ms, 4), round(transform_ms, 4))


def record(
    row: str,
    settings: RefinementSettings,
    depth: int,
    seconds: float,
    index: IndexCosts | None,
    query: QueryCosts,
) -> dict[str, Any]:
    """What data/costs/<row>/refine.json says.

    Args:
        depth: how many images the row's ranking has for each query.
        seconds: what the ranking took, with all that was learned for it.
        index: of the row's own index; None if it has none.
    """
    fingerprint = None
    if settings.needs_vectors:
        fingerprint = embeddings.origin(paths.embeddings(settings.second)).fingerprint
    return {
        **(index.to_json() if index else {}),
        **query.to_json(),
        "row": row,
        "method": settings.method,
        "fingerprint": fingerprint,
        "builds_index": settings.builds_index,
        "searches_second": settings.searches_second,
        "k": depth,
        "seconds": round(seconds, 3),
        "threads": machine.threads(),
        "device": machine.cpu_name(),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
    }
