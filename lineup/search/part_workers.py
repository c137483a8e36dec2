"""Parts of a gallery on the workers of the Ray cluster, where RAY_ADDRESS names one.

A part goes through Ray's object store, so the nodes need no shared disk. As many parts are under way as the
cluster has processors, and the object store room for: neither this process nor the store holds more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from lineup import cluster
from lineup.errors import UserError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How often Ray does a part again whose worker died. Where a node runs out of memory, Ray itself decides.
RETRIES = 3
# The object store also holds what other jobs and the results need.
_SHARE_OF_OBJECT_STORE = 0.5


class PartTask(NamedTuple):
    """number: of the part, from 0. arguments: reads the arguments of its task, of `size` bytes."""

    number: int
    size: int
    arguments: Callable[[], tuple[Any, ...]]


class _Running(NamedTuple):
    number: int
    size: int


def run(
    function: Callable[..., Result],
    tasks: Iterable[PartTask],
    parts: int,
    shared: tuple[Any, ...] = (),
    in_order: bool = False,
) -> Iterator[Result]:
    """function(*arguments, *shared) of each part, as the results come in.

    Args:
        function: of a module of Lineup; it runs on one processor.
        parts: how many tasks there are.
        shared: arguments that are sent to each node once.
        in_order: results come in the order of the tasks.
    Raises:
        UserError: a part's worker ended again and again; or what `function` raised.
    """
    ray = cluster.connect()
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
    stored = [ray.put(value) for value in shared]
    resources = ray.cluster_resources()
    processors = max(1, int(resources.get("CPU", 1)))
    log.info("%d parts on the Ray cluster, which has %d processors", parts, processors)
    free_bytes = resources.get("object_store_memory", 0) * _SHARE_OF_OBJECT_STORE / len(ray.nodes())
    running: dict[Any, _Running] = {}
    for number, size, arguments in tasks:
        while running and (
            len(running) > processors or size + sum(other.size for other in running.values()) > free_bytes
        ):
            yield _next_result(ray, running, parts, in_order)
        sent = [ray.put(argument) for argument in arguments()]
        running[task.remote(*sent, *stored)] = _Running(number, size)
        del arguments, sent  # or the part would stay in memory while the next one is read
    while running:
        yield _next_result(ray, running, parts, in_order)


def _next_result(ray: Any, running: dict[Any, _Running], parts: int, in_order: bool) -> Any:
    """The result of the first part that comes in, or of the first one; it is taken out of `running`."""
    references = list(running)
    [reference], _ = ray.wait(references[:1] if in_order else references, num_returns=1)
    part = f"part {running.pop(reference).number + 1} of {parts}"
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
        raise UserError(
            f"{cluster.ADDRESS_VARIABLE}: {part} ended its worker {RETRIES + 1} times, probably for lack of "
            "memory; set a smaller search.part_rows"
        ) from None
    except ray.exceptions.RayError as error:
        raise UserError(
            f"{cluster.ADDRESS_VARIABLE}: the Ray cluster failed at {part} ({type(error).__name__}); "
            "run `dvc repro` once `ray status` shows its nodes again"
        ) from None
