"""data/raw -> data/prepared: every photo checked, hashed, labelled and packed into shards, once for all models.

Pass 1, in worker processes: read, hash and decode each file (only if its bytes were never seen: the side cache knows).
Pass 2, in order of ids: write the shards from the raw files, or from the side cache where an image was shrunk or converted.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from stages.lib import cli, duplicates, paths, raw_data, tables
from stages.lib.duplicates import Leak, Photo
from stages.lib.errors import UserError
from stages.lib.image_cache import Facts, ImageCache, examine_files
from stages.lib.images import BadImage
from stages.lib.raw_data import RawData

_FILES_PER_TASK = 32
_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Prepared:
    """What pass 1 found. images: (image_id, split), sorted -> the photos (files) that hold it, sorted by path."""

    photos: list[Photo]
    images: dict[tuple[str, str], list[Photo]]
    facts: dict[str, Facts]
    leaks: list[Leak]
    contradictions: list[tuple[Photo, Photo]]
    unreadable: list[tuple[str, str]]  # path, reason

    def of_part(self, name: str) -> dict[tuple[str, str], list[Photo]]:
        return {key: photos for key, photos in self.images.items() if duplicates.part(key[1]) == name}


def assemble(raw: RawData, examined: Iterable[tuple[str, Facts]]) -> Prepared:
    """Joins names and labels with what the files hold; independent of the order in which they were examined."""
    facts: dict[str, Facts] = {}
    photos: list[Photo] = []
    unreadable: list[tuple[str, str]] = []
    for name, fact in examined:
        if fact.problem:
            unreadable.append((name, fact.problem))
            continue
        facts.setdefault(fact.image_id, fact)
        photos.append(Photo(name, raw.names[name], fact.image_id, fact.pixels_id, raw.labels.get(name)))
    photos.sort(key=lambda photo: photo.path)
    images: dict[tuple[str, str], list[Photo]] = {}
    for photo in photos:
        images.setdefault((photo.image_id, photo.split), []).append(photo)
    return Prepared(
        photos, dict(sorted(images.items())), facts, duplicates.leaks(photos), duplicates.contradictions(photos), sorted(unreadable)
    )


def manifest(prepared: Prepared, part: str) -> pa.Table:
    """The images of train or test, sorted by (image_id, split). A picture under two labels in one part has none."""
    doubtful = {
        (duplicates.part(a.split), a.pixels_id) for a, b in prepared.contradictions if duplicates.part(a.split) == duplicates.part(b.split)
    }
    rows = []
    for (image_id, split), photos in prepared.of_part(part).items():
        facts = prepared.facts[image_id]
        label = next((photo.label for photo in photos if photo.label is not None), None)
        rows.append(
            {
                "image_id": image_id,
                "split": split,
                "label": None if (part, facts.pixels_id) in doubtful else label,
                "paths": [photo.path for photo in photos],
                "pixels_id": facts.pixels_id,
                "width": facts.width,
                "height": facts.height,
                "format": facts.format,
            }
        )
    return pa.Table.from_pylist(rows, tables.MANIFEST)


def qrels(raw: RawData, prepared: Prepared) -> pa.Table:
    """Judgements by image id, sorted. Those about unreadable files are left out; two that differ are a UserError."""
    ids = {photo.path: photo.image_id for photo in prepared.photos}
    seen: dict[tuple[str, str], raw_data.Judgement] = {}
    for judgement in raw_data.read_judgements(raw):
        if judgement.query not in ids or judgement.gallery not in ids:
            continue
        pair = ids[judgement.query], ids[judgement.gallery]
        earlier = seen.setdefault(pair, judgement)
        if earlier.relevance != judgement.relevance:
            raise UserError(
                f"{raw.root / 'qrels.csv'}: line {judgement.line}: says {judgement.relevance} of {judgement.query!r} and {judgement.gallery!r}, "
                f"line {earlier.line} says {earlier.relevance} of the same images; remove one of the two"
            )
    rows = [{"query_id": query, "gallery_id": gallery, "relevance": seen[query, gallery].relevance} for query, gallery in sorted(seen)]
    return pa.Table.from_pylist(rows, tables.QRELS)


def problems(raw: RawData, prepared: Prepared) -> list[tuple[str, str]]:
    """(path, what is wrong and what was done), sorted: files not read, and pictures under two labels."""
    told = raw.problems + prepared.unreadable
    for first, other in prepared.contradictions:
        apart = duplicates.part(first.split) != duplicates.part(other.split)
        done = "each keeps its own" if apart else "neither label is used"
        told.append((other.path, f"is labelled {other.label!r}, but {first.path!r} is the same image and labelled {first.label!r}: {done}"))
    return sorted(told)


def summary(raw: RawData, prepared: Prepared) -> Iterator[str]:
    """What a user should know at the end, a line each."""
    splits = Counter(split for _, split in prepared.images)
    yield ", ".join(f"{splits[split]} {split}" for split in duplicates.SPLITS) + f" images of {len(raw.names)} files"
    if prepared.unreadable:
        reasons = Counter(reason for _, reason in prepared.unreadable)
        yield f"{len(prepared.unreadable)} files skipped: " + "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
    if prepared.contradictions:
        yield f"{len(prepared.contradictions)} images are under two labels"
    train = {photo.pixels_id for photo in prepared.photos if photo.split == "train"}
    both = sum(photos[0].pixels_id in train for (_, split), photos in prepared.images.items() if split != "train")
    if both:
        yield f"LEAK: {both} test images are also in train; a trained model has seen them"
    shared = {leak.path_a for leak in prepared.leaks if leak.kind == "same_label"}
    if shared:
        yield f"LEAK: {len(shared)} labels are in both train and test; scores of trained models don't tell how they do on new ones"
    equal = sum(leak.kind != "same_label" for leak in prepared.leaks)
    if equal:
        yield f"{equal} pairs of equal images"
    if prepared.leaks:
        yield f"all pairs are in {paths.LEAKS}"
    if prepared.unreadable or raw.problems or prepared.contradictions:
        yield f"all problems are in {paths.PROBLEMS}"


def check(prepared: Prepared, root: Path, on_bad_image: str) -> None:
    """UserError if bad images are not to be skipped, or leave nothing to search or to search with."""
    bad = prepared.unreadable
    first = "; ".join(f"{root / name} {reason}" for name, reason in bad[:3])
    if bad and on_bad_image == "fail":
        raise UserError(f"{len(bad)} bad images and preprocess.on_bad_image is 'fail': {first}{'; ...' if len(bad) > 3 else ''}")
    for split in ("query", "gallery"):
        if not any(key[1] == split for key in prepared.images):
            raise UserError(f"{root / 'test' / split}: holds no readable image: {first}")


def examine(cache: ImageCache, root: Path, names: Sequence[str], workers: int) -> Iterator[tuple[str, Facts]]:
    """Pass 1: (name, facts) of every file, in any order; a few tasks are under way at a time, however many files there are."""
    tasks = [list(names[start : start + _FILES_PER_TASK]) for start in range(0, len(names), _FILES_PER_TASK)]
    with tqdm(total=len(names), desc="preprocess", unit="image", file=sys.stderr, disable=None) as bar:
        for done in _in_processes(cache, root, tasks, min(workers, len(tasks))):
            bar.update(len(done))
            yield from done


def _in_processes(cache: ImageCache, root: Path, tasks: list[list[str]], workers: int) -> Iterator[list[tuple[str, Facts]]]:
    if workers <= 1:
        for task in tasks:
            yield examine_files(cache, root, task)
        return
    # Not fork: pyarrow's threads would be copied with their locks held.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start_worker)
    try:
        waiting: deque[Future[list[tuple[str, Facts]]]] = deque()
        for task in tasks:
            waiting.append(pool.submit(examine_files, cache, root, task))
            if len(waiting) >= 3 * workers:
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


def image_batches(cache: ImageCache, root: Path, prepared: Prepared, part: str) -> Iterator[pa.RecordBatch]:
    """Pass 2: rows of tables.IMAGES in order, some megabytes at a time."""
    rows: list[tuple[str, str, bytes]] = []
    size = 0
    for (image_id, split), photos in prepared.of_part(part).items():
        try:
            data = cache.stored(prepared.facts[image_id], [root / photo.path for photo in photos])
        except BadImage as error:
            raise UserError(f"{root / photos[0].path}: {error}; run again once nothing writes to {root}") from None
        rows.append((image_id, split, data))
        size += len(data)
        if size >= _BATCH_BYTES:
            yield _batch(rows)
            rows, size = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[tuple[str, str, bytes]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch([pa.array(column, kind.type) for column, kind in zip(columns, tables.IMAGES, strict=True)], schema=tables.IMAGES)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    tables.write_text(path, text.getvalue())


def main() -> None:
    params = cli.start_whole("preprocess")
    raw = raw_data.read(paths.RAW)
    cache = ImageCache.open(paths.CACHE, params.preprocess.max_side)
    prepared = assemble(raw, examine(cache, raw.root, list(raw.names), cli.threads()))
    check(prepared, raw.root, params.preprocess.on_bad_image)
    judgements = qrels(raw, prepared)
    parts: tuple[paths.Part, ...] = ("train", "test")
    for part in parts:
        batches = image_batches(cache, raw.root, prepared, part)
        tables.write_shards(paths.images(part), tables.IMAGES, batches, len(prepared.of_part(part)), tables.IMAGES_PER_SHARD)
        tables.write_table(paths.manifest(part), manifest(prepared, part))
    tables.write_table(paths.QRELS, judgements)
    _write_csv(paths.PROBLEMS, ("path", "problem"), problems(raw, prepared))
    _write_csv(paths.LEAKS, Leak._fields, prepared.leaks)
    for line in summary(raw, prepared):
        cli.log.info(line)


if __name__ == "__main__":
    cli.run(main)
