"""Pass 1 of preprocess: worker processes find out what each raw file holds.

The system kills a worker whose photo takes more memory than there is. The photos that the workers were
examining are then left for the end, and examined one at a time, each in a process of its own. A photo that
ends this process, too, is reported as a problem.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from ctypes import Array, c_int64
from dataclasses import dataclass
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tqdm import tqdm

from lineup import launch, machine
from lineup.errors import UserError
from lineup.memory_budget import MemoryBudget
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.image_cache import FileRecord, ReserveMemory, read_file
from lineup.photos.image_opening import BadImage

log = logging.getLogger(__name__)

File = tuple[int, str]  # Its number among all files, from 0, and its name.
# A file's name and its record, which is None where memory ran out.
Examined = tuple[str, FileRecord | None]

_FILES_PER_TASK = 8
# Tasks that are queued at a time; memory must not grow with the number of files.
_TASKS_PER_WORKER = 3
# The share of the free memory for all photos that are decoded at a time.
_MEMORY_SHARE = 0.5
_NO_FILE = -1
# Only test photos are searched with and for, so only theirs say where a row fails.
_TEST_FOLDER = "test/"
_LIKELY_CAUSE = "a worker process was killed, most likely because memory ran out"
_WORKER_LOST = f"{_LIKELY_CAUSE}; run again to go on: nothing finished is lost"

# Not fork, which would copy pyarrow's threads with their locks held.
_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()
_processes = (
    multiprocessing.get_context("forkserver") if _FORKSERVER else multiprocessing.get_context("spawn")
)


def scan_files(
    cache: AttributeCache, root: Path, names: Iterable[str], count: int, workers: int
) -> Iterator[tuple[str, FileRecord]]:
    """(name, record) of every file, in any order. The record of an unreadable file has nothing but a problem.

    Args:
        cache: has the records and the attributes of files that were seen before; in the end it has the
            attributes of all test photos.
        root: the folder that names are relative to.
        count: the number of names.
        workers: the number of processes; 0 to work in this one.
    Raises:
        UserError: a worker was killed while it examined no file.
    """
    source = enumerate(names)
    tasks = iter(lambda: list(islice(source, _FILES_PER_TASK)), [])
    examined = _examine(cache, root, tasks, min(workers, -(-count // _FILES_PER_TASK)))
    return with_records_of_all(examined, cache, root, count)


def with_records_of_all(
    examined: Iterable[Examined], cache: AttributeCache, root: Path, count: int
) -> Iterator[tuple[str, FileRecord]]:
    """Names and records, and at the end those of the files that have none, examined here one at a time."""
    without_record = []
    with tqdm(total=count, desc="preprocess", unit="image", file=sys.stderr, disable=None) as bar:
        for name, record in examined:
            if record:
                bar.update()
                yield name, record
            else:
                without_record.append(name)
        for name in without_record:
            bar.update()
            yield name, examine_alone(cache, root, name)


def _examine(
    cache: AttributeCache, root: Path, tasks: Iterator[list[File]], workers: int
) -> Iterator[Examined]:
    """Examines the files of all tasks, with new workers whenever one was killed."""
    if not workers:
        for task in tasks:
            yield from ((name, examine_file(cache, root, name, nullcontext)) for _, name in task)
        return
    unfinished: deque[list[File]] = deque()
    while True:
        crew = _Crew(cache, root, workers)
        try:
            yield from crew.examine(tasks, unfinished)
            return
        except BrokenProcessPool:
            suspects = crew.current_files(unfinished)
        finally:
            crew.dismiss()
        if not suspects:
            raise UserError(_WORKER_LOST)
        names = ", ".join(str(root / name) for _, name in suspects)
        log.warning("%s; left for the end, one at a time: %s", _LIKELY_CAUSE, names)
        yield from ((name, None) for _, name in suspects)
        unfinished = deque([file for file in task if file not in suspects] for task in unfinished)


def _start_forkserver() -> None:
    if _FORKSERVER:
        resource_tracker.ensure_running()  # This comes first, as it unblocks the signal once it has started.
        with launch.uninterrupted():
            forkserver.ensure_running()


class _Crew:
    """Worker processes that share the memory; each records the file that it is examining."""

    def __init__(self, cache: AttributeCache, root: Path, workers: int) -> None:
        self._current = _processes.RawArray(c_int64, [_NO_FILE] * workers)
        self._tasks_at_a_time = _TASKS_PER_WORKER * workers
        budget = MemoryBudget(_processes, int(machine.available_memory_bytes() * _MEMORY_SHARE))
        started = _processes.Value("i", 0)
        _start_forkserver()
        with launch.uninterrupted():
            self._pool = ProcessPoolExecutor(
                workers, _processes, _start_worker, (cache, root, budget, self._current, started)
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
    _become_worker()
    with started.get_lock():
        index = started.value
        started.value += 1
    _worker = _Worker(cache, root, budget, current, index)


def _become_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with the parent, and keeps libraries from printing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    launch.silence_libraries()


def _examine_task(task: list[File]) -> list[Examined]:
    """Runs in a worker."""
    assert _worker is not None
    done = []
    for number, name in task:
        _worker.current[_worker.index] = number
        done.append((name, examine_file(_worker.cache, _worker.root, name, _worker.budget.taking)))
    _worker.current[_worker.index] = _NO_FILE
    return done


def examine_file(cache: AttributeCache, root: Path, name: str, reserve: ReserveMemory) -> FileRecord | None:
    """The file's record, which is nothing but a problem if it can't be read; None where memory runs out."""
    try:
        data = read_file(root / name)
        record = cache.images.examine(data, reserve)
        if name.startswith(_TEST_FOLDER) and not record.problem:
            cache.fill(data, record, root / name, reserve)
        return record
    except BadImage as error:
        return FileRecord("", problem=str(error))
    except MemoryError:
        return None


def examine_alone(cache: AttributeCache, root: Path, name: str) -> FileRecord:
    """Examines a file in a process of its own, with no other beside it; its end is the photo's problem.

    Raises:
        UserError: the process did not start.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_send_record, args=(sender, cache, root, name), daemon=True)
    with launch.uninterrupted():
        process.start()
    sender.close()
    try:
        record = receiver.recv()
    except EOFError:
        record = None
    process.join()
    exit_code = process.exitcode or 0
    if exit_code > 0:  # Python itself failed, not the photo.
        raise UserError(_WORKER_LOST)
    return record or FileRecord("", problem=_explain_exit(exit_code))


def _send_record(sender: Connection, cache: AttributeCache, root: Path, name: str) -> None:
    _become_worker()
    sender.send(examine_file(cache, root, name, nullcontext))


def _explain_exit(exit_code: int) -> str:
    """The problem of a photo whose process ended.

    Args:
        exit_code: 0 if the process itself ran out of memory, else minus the signal that ended it.
    """
    if exit_code in (0, -signal.SIGKILL):  # A system that is short of memory sends SIGKILL.
        return (
            "takes more memory than there is; make it smaller, "
            "or provide more memory and run `dvc repro -f preprocess`"
        )
    return f"crashes the decoder ({signal.Signals(-exit_code).name}); save it again, in another format"
