"""Pass 1 of preprocess: what each raw file holds, found out in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from stages.lib.errors import UserError
from stages.lib.image_cache import Facts, ImageCache, read_file
from stages.lib.images import BadImage

_FILES_PER_TASK = 8
_TASKS_PER_WORKER = 3  # under way at a time: memory doesn't grow with the number of files


def examine(cache: ImageCache, root: Path, names: Iterable[str], count: int, workers: int) -> Iterator[tuple[str, Facts]]:
    """Pass 1: (name, facts) of every file, in any order; only a problem of those that can't be read. count: of the names."""
    source = iter(names)
    tasks = iter(lambda: list(islice(source, _FILES_PER_TASK)), [])
    with tqdm(total=count, desc="preprocess", unit="image", file=sys.stderr, disable=None) as bar:
        for done in _in_processes(cache, root, tasks, min(workers, -(-count // _FILES_PER_TASK))):
            bar.update(len(done))
            yield from done


def _in_processes(cache: ImageCache, root: Path, tasks: Iterator[list[str]], workers: int) -> Iterator[list[tuple[str, Facts]]]:
    if workers <= 1:
        for task in tasks:
            yield _examine_task(cache, root, task)
        return
    # Not fork: pyarrow's threads would be copied with their locks held.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start_worker)
    try:
        waiting: deque[Future[list[tuple[str, Facts]]]] = deque()
        for task in tasks:
            waiting.append(pool.submit(_examine_task, cache, root, task))
            if len(waiting) >= _TASKS_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely for want of memory; run again to go on, nothing finished is lost"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle; and a killed parent must not leave workers behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()


def _examine_task(cache: ImageCache, root: Path, names: list[str]) -> list[tuple[str, Facts]]:
    """In a worker: an unreadable file has no image_id, only a problem."""
    found = []
    for name in names:
        try:
            found.append((name, cache.examine(read_file(root / name))))
        except BadImage as error:
            found.append((name, Facts("", problem=str(error))))
    return found
