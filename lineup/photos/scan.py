"""Pass 1 of preprocess: what each raw file holds, found out in worker processes.

A worker is killed where a photo takes more memory than there is. Then the photos that were under way are left
for the end, and examined one at a time, each in a process of its own; the one that ends this process, too, is
noted as a problem.
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
from lineup.photos.decoding import BadImage
from lineup.photos.image_cache import FileRecord, ImageCache, Room, read_file

log = logging.getLogger(__name__)

File = tuple[int, str]  # its number among all, from 0, and its name
Examined = tuple[
    str, FileRecord | None
]  # a file's name and what it holds; None: for want of memory nothing is known

_FILES_PER_TASK = 8
_TASKS_PER_WORKER = 3  # under way at a time: memory doesn't grow with the number of files
_MEMORY_SHARE = 0.5  # of what is available, for all photos that are decoded at a time
_NONE = -1
_WORKER_LOST = "a worker process was killed, most likely for want of memory; run again to go on, nothing finished is lost"

# Not fork: pyarrow's threads would be copied with their locks held.
_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()
_processes = (
    multiprocessing.get_context("forkserver") if _FORKSERVER else multiprocessing.get_context("spawn")
)


def scan_files(
    cache: ImageCache, root: Path, names: Iterable[str], count: int, workers: int
) -> Iterator[tuple[str, FileRecord]]:
    """Pass 1: (name, facts) of every file, in any order; only a problem of those that can't be read.

    count: of the names; workers: processes, or 0 for none but this one. UserError if a worker is killed that
        examined no file.
    """
    source = enumerate(names)
    tasks = iter(lambda: list(islice(source, _FILES_PER_TASK)), [])
    short_of_memory = []
    with tqdm(total=count, desc="preprocess", unit="image", file=sys.stderr, disable=None) as bar:
        for name, facts in _examined(cache, root, tasks, min(workers, -(-count // _FILES_PER_TASK))):
            if facts:
                bar.update()
                yield name, facts
            else:
                short_of_memory.append(name)
        for name in short_of_memory:
            bar.update()
            yield name, _examined_alone(cache, root, name)


def _examined(cache: ImageCache, root: Path, tasks: Iterator[list[File]], workers: int) -> Iterator[Examined]:
    """Starts workers again where one was killed."""
    if not workers:
        for task in tasks:
            yield from ((name, _facts(cache, root, name, nullcontext)) for _, name in task)
        return
    unfinished: deque[list[File]] = deque()
    while True:
        crew = _Crew(cache, root, workers)
        try:
            yield from crew.examine(tasks, unfinished)
            return
        except BrokenProcessPool:
            suspects = crew.under_way(unfinished)
        finally:
            crew.dismiss()
        if not suspects:
            raise UserError(_WORKER_LOST)
        named = ", ".join(str(root / name) for _, name in suspects)
        log.warning(
            "a worker process was killed, most likely for want of memory; left for the end, one at a time: %s",
            named,
        )
        yield from ((name, None) for _, name in suspects)
        unfinished = deque([file for file in task if file not in suspects] for task in unfinished)


def _start_forkserver() -> None:
    if _FORKSERVER:
        resource_tracker.ensure_running()  # first, as it lets the signal through once it is started
        with launch.uninterrupted():
            forkserver.ensure_running()


class _Crew:
    """Worker processes that share the memory, and leave word of the file that each is at."""

    def __init__(self, cache: ImageCache, root: Path, workers: int) -> None:
        self._at = _processes.RawArray(c_int64, [_NONE] * workers)
        self._tasks_at_a_time = _TASKS_PER_WORKER * workers
        budget = MemoryBudget(_processes, int(machine.available_memory_bytes() * _MEMORY_SHARE))
        started = _processes.Value("i", 0)
        _start_forkserver()
        with launch.uninterrupted():
            self._pool = ProcessPoolExecutor(
                workers, _processes, _start_worker, (cache, root, budget, self._at, started)
            )

    def examine(self, tasks: Iterator[list[File]], unfinished: deque[list[File]]) -> Iterator[Examined]:
        """unfinished: tasks to begin with.

        At any time those that are given out and not yet done. Raises BrokenProcessPool.
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
        with launch.uninterrupted():  # a worker that is half started prints a traceback when its parent goes
            return self._pool.submit(_examine_task, task)

    def under_way(self, unfinished: Iterable[list[File]]) -> list[File]:
        """Which of the files workers were at when they ended."""
        numbers = set(self._at)
        return [file for task in unfinished for file in task if file[0] in numbers]

    def dismiss(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Worker:
    """What a worker process holds. at: of all workers, the number of the file; place: this one's."""

    cache: ImageCache
    root: Path
    budget: MemoryBudget
    at: Array[c_int64]
    place: int


_worker: _Worker | None = None


def _start_worker(
    cache: ImageCache, root: Path, budget: MemoryBudget, at: Array[c_int64], started: Synchronized[int]
) -> None:
    global _worker
    _become_worker()
    with started.get_lock():
        place = started.value
        started.value += 1
    _worker = _Worker(cache, root, budget, at, place)


def _become_worker() -> None:
    """Ctrl-C is the parent's to handle.

    A killed parent must not leave workers behind; libraries print nothing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    launch.silence_libraries()


def _examine_task(task: list[File]) -> list[Examined]:
    """In a worker."""
    assert _worker is not None
    done = []
    for number, name in task:
        _worker.at[_worker.place] = number
        done.append((name, _facts(_worker.cache, _worker.root, name, _worker.budget.taking)))
    _worker.at[_worker.place] = _NONE
    return done


def _facts(cache: ImageCache, root: Path, name: str, room: Room) -> FileRecord | None:
    """An unreadable file has no image_id, only a problem. None where memory runs out."""
    try:
        return cache.examine(read_file(root / name), room)
    except BadImage as error:
        return FileRecord("", problem=str(error))
    except MemoryError:
        return None


def _examined_alone(cache: ImageCache, root: Path, name: str) -> FileRecord:
    """In a process of its own, with nothing beside it.

    A photo that ends it is a problem; UserError if it never started.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_send_facts, args=(sender, cache, root, name), daemon=True)
    with launch.uninterrupted():
        process.start()
    sender.close()
    try:
        facts = receiver.recv()
    except EOFError:
        facts = None
    process.join()
    exit_code = process.exitcode or 0
    if exit_code > 0:  # of Python, and not for a photo
        raise UserError(_WORKER_LOST)
    return facts or FileRecord("", problem=_ending(exit_code))


def _send_facts(sender: Connection, cache: ImageCache, root: Path, name: str) -> None:
    _become_worker()
    sender.send(_facts(cache, root, name, nullcontext))


def _ending(exit_code: int) -> str:
    """Of a process that examined a photo: 0 if it ran out of memory itself, else the signal that ended it,
    negative.
    """
    if exit_code in (0, -signal.SIGKILL):  # the latter is how a system that is short of memory does it
        return "takes more memory than there is; make it smaller, or give more memory and run `dvc repro -f preprocess`"
    return f"crashes what decodes it ({signal.Signals(-exit_code).name}); save it again, in another format"
