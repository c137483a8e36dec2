"""The nearest images of queries in a gallery that is searched part by part.

Memory is bounded by the part, not by the gallery: a part is read, searched and given back before the next
one. The ranking is that of a search in one piece, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import faiss

from lineup import cluster, machine
from lineup.search import faiss_search, index_file, merging, part_workers, parted_index, query_time
from lineup.search.hits import Hits
from lineup.search.index_file import Bytes, IndexFile, Part
from lineup.search.part_workers import PartTask
from lineup.search.parted_index import Searchable
from lineup.search.vectors import Positions, Vectors

_QUERY_TIMING_SECONDS = 10.0  # for all parts together


@dataclass(frozen=True)
class SearchCosts:
    """What a search took.

    query_ms: mean wall milliseconds in which FAISS alone searches one query, in one part after the other.
    threads, device: what query_ms was measured with.
    peak_memory_mb: of the process that needed most.
    """

    query_ms: float
    threads: int
    device: str
    peak_memory_mb: float


@dataclass(frozen=True)
class PartResult:
    """The ranking of a part by positions in the whole gallery, and what its search took."""

    ranked: Hits
    costs: SearchCosts


def search(file: IndexFile, queries: Vectors, k: int, excluded: Positions) -> tuple[Hits, SearchCosts]:
    """The nearest images of queries in an index file; arguments as of `faiss_search.nearest`.

    A file of several parts is searched by the Ray cluster that RAY_ADDRESS names, or by this process where it
    names none.
    """
    if len(file.parts) == 1:
        return in_one_piece(file.index, queries, k, excluded)
    if cluster.address() is None:
        return part_by_part(file.parts, queries, k, excluded)
    return on_cluster(file.parts, queries, k, excluded)


def in_one_piece(
    index: Searchable, queries: Vectors, k: int, excluded: Positions
) -> tuple[Hits, SearchCosts]:
    """The nearest images in an index that is mapped into memory; arguments as of `faiss_search.nearest`."""
    ranked = parted_index.nearest(index, queries, k, excluded)
    return ranked, _costs(parted_index.query_ms(index, queries, k))


def part_by_part(
    parts: Sequence[Part], queries: Vectors, k: int, excluded: Positions
) -> tuple[Hits, SearchCosts]:
    """As `in_one_piece`, with one part in memory at a time."""
    results = (search_part(part, part.read(), queries, k, excluded, len(parts)) for part in parts)
    return merged(results, len(queries), k)


def on_cluster(
    parts: Sequence[Part], queries: Vectors, k: int, excluded: Positions
) -> tuple[Hits, SearchCosts]:
    """As `part_by_part`, with as many parts at once as the Ray cluster has processors."""
    tasks = (PartTask(part.number, part.size, partial(_arguments, part)) for part in parts)
    results = part_workers.run(
        _search_on_one_processor, tasks, len(parts), (queries, k, excluded, len(parts))
    )
    return merged(results, len(queries), k)


def _arguments(part: Part) -> tuple[Part, Bytes]:
    return part, part.read()


def _search_on_one_processor(
    part: Part, data: Bytes, queries: Vectors, k: int, excluded: Positions, parts: int
) -> PartResult:
    faiss.omp_set_num_threads(1)
    return search_part(part, data, queries, k, excluded, parts)


def search_part(
    part: Part, data: Bytes, queries: Vectors, k: int, excluded: Positions, parts: int
) -> PartResult:
    """Searches one part.

    Args:
        data: what `part.read` returned.
        queries, k, excluded: as of `faiss_search.nearest`, with positions in the whole gallery.
        parts: how many there are.
    """
    index = index_file.opened(data)
    banned = merging.excluded_in_part(excluded, part.start, part.images)
    ranked = faiss_search.nearest(index, queries, k, banned)
    query_ms = query_time.query_ms(index, queries, k, most_seconds=_QUERY_TIMING_SECONDS / parts)
    return PartResult(merging.in_gallery(ranked, part.start), _costs(query_ms))


def merged(results: Iterable[PartResult], queries: int, k: int) -> tuple[Hits, SearchCosts]:
    """The ranking of the whole gallery, from those of all parts in any order."""
    best, costs = merging.empty_rankings(queries), list[SearchCosts]()
    for result in results:
        best = merging.merge(best, result.ranked, k)
        costs.append(result.costs)
    return best, SearchCosts(
        query_ms=sum(cost.query_ms for cost in costs),
        threads=max(cost.threads for cost in costs),
        device=", ".join(sorted({cost.device for cost in costs})),
        peak_memory_mb=max(machine.peak_memory_mb(), *(cost.peak_memory_mb for cost in costs)),
    )


def _costs(query_ms: float) -> SearchCosts:
    return SearchCosts(query_ms, faiss.omp_get_max_threads(), machine.cpu_name(), machine.peak_memory_mb())
