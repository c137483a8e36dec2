"""Pass 1 of preprocess on the Ray cluster, where the photos and the local cache are on a disk of all nodes.

A task whose photos end three processes, or whose photo lacks memory, is left for the end: this machine then
examines its photos one at a time, each in a process of its own, as `scan` does.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from lineup import cluster
from lineup.cluster import Cluster
from lineup.errors import UserError
from lineup.photos import scan
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.file_examination import examine_file
from lineup.photos.image_cache import FileRecord, ImageCache
from lineup.photos.scan_workers import Examined

log = logging.getLogger(__name__)

_FILES_PER_TASK = 32
# Tasks that are queued at a time; memory must not grow with the number of files.
_TASKS_PER_CPU = 3
# Times that Ray begins a task again whose process ended.
_MAX_RETRIES = 2


class _Folders(NamedTuple):
    """What a node needs besides the photos; all paths are absolute."""

    raw: Path
    cache: Path
    shorter_side_px: int
    fingerprint: str


def all_nodes_see(ray: Any, size: Cluster, photo: Path, cache_folder: Path) -> bool:
    """Whether each node of the cluster sees a photo and a folder under the paths that they have here.

    Nothing is written where the photos are: that disk may be read-only.

    Args:
        cache_folder: into which a file is written for this test.
    """
    mark = cache_folder.resolve() / f".lineup-{uuid.uuid4().hex}"
    mark.touch()
    try:
        task, size_here = ray.remote(_sees), _bytes(photo)
        seen = [
            task.options(num_cpus=0, label_selector={cluster.NODE_LABEL: node.id}).remote(
                mark, photo.absolute(), size_here
            )
            for node in size.nodes
        ]
        return all(ray.get(seen))
    finally:
        mark.unlink(missing_ok=True)


def _sees(mark: Path, photo: Path, photo_bytes: int | None) -> bool:
    """Runs on a node."""
    return mark.exists() and _bytes(photo) == photo_bytes


def _bytes(file: Path) -> int | None:
    """The size of a file; None if it can't be seen."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def scan_files(
    ray: Any, size: Cluster, attributes: AttributeCache, root: Path, names: Iterable[str], count: int
) -> Iterator[tuple[str, FileRecord]]:
    """What `scan.scan_files` yields, from the nodes of the cluster.

    Args:
        attributes, root, names, count: as there.
    Raises:
        UserError: a node would prepare other images than this machine.
    """
    images = attributes.images
    cache_root = attributes.store.folder.resolve().parents[1]
    folders = _Folders(root.absolute(), cache_root, images.shorter_side_px, images.fingerprint)
    source = iter(names)
    tasks = iter(lambda: list(islice(source, _FILES_PER_TASK)), [])
    examined = _examine(ray, folders, tasks, _TASKS_PER_CPU * size.cpus)
    return scan.with_records_of_all(examined, attributes, root, count)


def _examine(
    ray: Any, folders: _Folders, tasks: Iterator[list[str]], most_pending: int
) -> Iterator[Examined]:
    """The files of all tasks, in any order; their record is None where a task's process ended."""
    examine = ray.remote(_examine_task).options(num_cpus=1, max_retries=_MAX_RETRIES)
    pending = {examine.remote(folders, task): task for task in islice(tasks, most_pending)}
    while pending:
        [done], _ = ray.wait([*pending], num_returns=1)
        task = pending.pop(done)
        pending |= {examine.remote(folders, more): more for more in islice(tasks, 1)}
        try:
            yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError:
            log.warning("the Ray cluster has lost the processes of a task; its photos are left for the end")
            yield from ((name, None) for name in task)


def _examine_task(folders: _Folders, names: list[str]) -> list[Examined]:
    """Runs on a node."""
    opened = _open(folders)
    return [(name, examine_file(opened, folders.raw, name, nullcontext)) for name in names]


@cache
def _open(folders: _Folders) -> AttributeCache:
    images = ImageCache.open(folders.cache, folders.shorter_side_px)
    if images.fingerprint != folders.fingerprint:
        raise UserError(
            f"{cluster.ADDRESS_VARIABLE}: a node of the Ray cluster has another version of Pillow or of a "
            "decoder, and would prepare other images; install the same versions on all nodes"
        )
    return AttributeCache.open(folders.cache, images)
