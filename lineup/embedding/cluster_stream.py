"""Batches of photos through workers on the cluster: Ray Data hands them out, and again if need be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lineup import cluster
from lineup.embedding.cluster_worker import Work, Worker

# Batches that a worker computes at a time, so that its threads don't wait for the next batch.
_BATCHES_AT_A_TIME = 2


@dataclass(frozen=True)
class Crew:
    """How many workers there are at first, and what each takes."""

    workers: int
    threads: int
    gpus: int


def vectors(
    ray: Any, work: Work, crew: Crew, read: Callable[..., Iterator[pa.Table]], arguments: dict[str, Any]
) -> Generator[pa.Table]:
    """Tables of cluster_worker.VECTORS, in any order.

    Args:
        ray: the module, connected to the cluster.
        read: yields rows of cluster_worker.PHOTOS. It is called with an empty table and `arguments`, on the
            node of this process.
    """
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.target_max_block_size = 1  # a row is larger, and is a block of its own
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    batches = ray.data.from_items([{"": 0}]).map_batches(
        read,
        fn_kwargs=arguments,
        batch_format="pyarrow",
        num_cpus=0,
        label_selector={cluster.NODE_LABEL: ray.get_runtime_context().get_node_id()},
    )
    computed = batches.map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(work,),
        compute=ActorPoolStrategy(
            min_size=1,
            initial_size=crew.workers,
            max_size=crew.workers,
            max_tasks_in_flight_per_actor=2 * _BATCHES_AT_A_TIME,
            max_concurrent_calls_per_actor=_BATCHES_AT_A_TIME,
            enable_true_multi_threading=True,
        ),
        num_cpus=crew.threads,
        num_gpus=crew.gpus or None,
    )
    yield from computed.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
