"""The worker processes of a scan, which share the memory and record which file each is examining."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from ctypes import Array, c_int64
from dataclasses import dataclass
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from lineup import launch, machine
from lineup.memory_budget import MemoryBudget
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.file_examination import examine_file
from lineup.photos.image_cache import FileRecord
from lineup.photos.scan_processes import PROCESS_CONTEXT, become_worker, start_forkserver

File = tuple[int, str]  # Its number among all files, from 0, and its name.
# A file's name and its record, which is None where memory ran out.
Examined = tuple[str, FileRecord | None]

# Tasks that are queued at a time; memory must not grow with the number of files.
_TASKS_PER_WORKER = 3
# The share of the free memory for all photos that are decoded at a time.
_MEMORY_SHARE = 0.5
_NO_FILE = -1


class Workers:
    """Worker processes that share the memory; each records the file that it is examining."""

    def __init__(self, cache: AttributeCache, root: Path, workers: int) -> None:
        self._current = PROCESS_CONTEXT.RawArray(c_int64, [_NO_FILE] * workers)
        self._tasks_at_a_time = _TASKS_PER_WORKER * workers
        budget = MemoryBudget(PROCESS_CONTEXT, int(machine.available_memory_bytes() * _MEMORY_SHARE))
        started = PROCESS_CONTEXT.Value("i", 0)
        start_forkserver()
        with launch.uninterrupted():
            self._pool = ProcessPoolExecutor(
                workers, PROCESS_CONTEXT, _start_worker, (cache, root, budget, self._current, started)
            )

    def examine(self, tasks: Iterator[list[File]], unfinished: deque[list[File]]) -> Iterator[Examined]:
        """The examined files of all tasks.

        Args:
            tasks: taken as workers become free.
            unfinished: tasks to begin with. At any time it holds the tasks that are queued and not yet done.
        Raises:
            BrokenProcessPool: a worker was killed.
        """
        futures = deque(map(self._submit, unfinished))
        while True:
            for task in islice(tasks, max(0, self._tasks_at_a_time - len(futures))):
                unfinished.append(task)
                futures.append(self._submit(task))
            if not futures:
                return
            done = futures.popleft().result()
            unfinished.popleft()
            yield from done

    def _submit(self, task: list[File]) -> Future[list[Examined]]:
        with launch.uninterrupted():  # A half-started worker would print a traceback when its parent ends.
            return self._pool.submit(_examine_task, task)

    def current_files(self, unfinished: Iterable[list[File]]) -> list[File]:
        """The files that workers were examining when they ended."""
        numbers = set(self._current)
        return [file for task in unfinished for file in task if file[0] in numbers]

    def dismiss(self) -> None:
        """Ends the processes, once their current tasks are done."""
        self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Worker:
    """What a worker process has.

    Attributes:
        current: the number of the file that each worker is at.
        index: of this worker.
    """

    cache: AttributeCache
    root: Path
    budget: MemoryBudget
    current: Array[c_int64]
    index: int


_worker: _Worker | None = None


def _start_worker(
    cache: AttributeCache,
    root: Path,
    budget: MemoryBudget,
    current: Array[c_int64],
    started: Synchronized[int],
) -> None:
    global _worker
    become_worker()
    with started.get_lock():
        index = started.value
        started.value += 1
    _worker = _Worker(cache, root, budget, current, index)


def _examine_task(task: list[File]) -> list[Examined]:
    """Runs in a worker."""
    assert _worker is not None
    done = []
    for number, name in task:
        _worker.current[_worker.index] = number
        done.append((name, examine_file(_worker.cache, _worker.root, name, _worker.budget.taking)))
    _worker.current[_worker.index] = _NO_FILE
    return done
