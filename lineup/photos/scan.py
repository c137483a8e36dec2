"""Pass 1 of preprocess: worker processes find out what each raw file holds.

The system kills a worker whose photo takes more memory than there is. The photos that the workers were
examining are then left for the end, and examined one at a time, each in a process of its own. A photo that
ends this process, too, is reported as a problem.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from lineup.errors import UserError
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.file_examination import examine_alone, examine_file
from lineup.photos.image_cache import FileRecord
from lineup.photos.scan_processes import LIKELY_CAUSE, WORKER_LOST
from lineup.photos.scan_workers import Examined, File, Workers

log = logging.getLogger(__name__)

_FILES_PER_TASK = 8


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
        pool = Workers(cache, root, workers)
        try:
            yield from pool.examine(tasks, unfinished)
            return
        except BrokenProcessPool:
            suspects = pool.current_files(unfinished)
        finally:
            pool.dismiss()
        if not suspects:
            raise UserError(WORKER_LOST)
        names = ", ".join(str(root / name) for _, name in suspects)
        log.warning("%s; left for the end, one at a time: %s", LIKELY_CAUSE, names)
        yield from ((name, None) for _, name in suspects)
        unfinished = deque([file for file in task if file not in suspects] for task in unfinished)
