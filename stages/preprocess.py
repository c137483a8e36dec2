"""data/raw -> data/prepared: checks, hashes and labels every photo, and packs it into shards for all models.

Pass 1, in worker processes: reads and hashes each file, and decodes it unless its record is in the local
cache. Pass 2, in the order of ids: writes the shards, from the raw files, or from the local cache where an
image was shrunk or converted. The pixels' attributes are computed in pass 1, from the prepared images.

preprocess_transfer@set does so with a second test set that `transfer.sets` names, in data/prepared_transfer.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa

from lineup import cli, cluster, machine, paths
from lineup.errors import UserError, printable, suggest
from lineup.photos import (
    attribute_table,
    cluster_scan,
    duplicates,
    image_cache,
    photo_register,
    raw_attributes,
    raw_folder,
    raw_tables,
)
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.duplicates import Leak
from lineup.photos.image_cache import FileRecord, ImageCache
from lineup.photos.photo_register import add_problem, scalar
from lineup.photos.scan import scan_files
from lineup.settings import label_share, training_photos
from lineup.settings.params import Params
from lineup.settings.training import NoObjective, Objective
from lineup.storage import csv_files, parquet, schemas

log = logging.getLogger(__name__)

_BATCH_BYTES = 2**20
_MAX_SHOWN_PROBLEMS = 3
_MAX_NAME_CHARACTERS, _MAX_REASON_CHARACTERS = 100, 200


def scanned(
    attributes: AttributeCache, root: Path, names: Iterator[str], count: int
) -> Iterator[tuple[str, FileRecord]]:
    """(name, record) of every file: from the Ray cluster where its nodes see the photos, else from here."""
    if cluster.address():
        ray = cluster.connect()
        size = cluster.describe(ray)
        first = [*islice(names, 1)]
        names = chain(first, names)
        if first and cluster_scan.all_nodes_see(ray, size, root / first[0], paths.CACHE):
            log.info("examining the photos on the Ray cluster: %s", size.described())
            return cluster_scan.scan_files(ray, size, attributes, root, names, count)
        log.info(
            "not every node of the Ray cluster sees %s and %s under their paths here: examining the photos "
            "on this machine",
            root,
            paths.CACHE,
        )
    return scan_files(attributes, root, names, count, machine.threads())


def register_photos(
    register: sqlite3.Connection, root: Path, attributes: AttributeCache, on_bad_image: str
) -> None:
    """Pass 1: adds every readable photo of the register's files. Raises UserError as `check` does."""
    names = (path for (path,) in register.execute("SELECT path FROM file ORDER BY path"))
    count = scalar(register, "SELECT count(*) FROM file")
    assemble(register, scanned(attributes, root, names, count))
    check(register, root, on_bad_image)


def assemble(register: sqlite3.Connection, records: Iterable[tuple[str, FileRecord]]) -> None:
    """Joins names and labels with the files' records, which may come in any order, and finds leaks.

    Args:
        records: (name, record) of every file.
    """

    def readable() -> Iterator[tuple[object, ...]]:
        for name, record in records:
            if record.problem:
                add_problem(register, name, record.problem, skipped=True)
            else:
                if record.note:
                    add_problem(register, name, record.note)
                yield (
                    record.image_id,
                    record.pixels_id,
                    record.width,
                    record.height,
                    record.format,
                    record.prepared_id or None,
                    name,
                )

    register.executemany(
        "INSERT INTO photo SELECT path, split, label, ?, ?, ?, ?, ?, ? FROM file WHERE path = ?", readable()
    )
    duplicates.find_leaks(register)


def check(register: sqlite3.Connection, root: Path, on_bad_image: str) -> None:
    """Raises UserError if bad images must not be skipped, or if without them a split of the test is empty."""
    if on_bad_image == "fail" and scalar(register, "SELECT count(*) FROM problem WHERE skipped"):
        bad = _first_skipped(register, root, raw_folder.SPLITS)
        raise UserError(f"{bad}; fix or remove what is bad, or set preprocess.on_bad_image to 'skip'")
    for folder, split in raw_folder.SPLITS.items():
        if split != "train" and not scalar(
            register, "SELECT EXISTS (SELECT 1 FROM photo WHERE split = ?)", split
        ):
            raise UserError(f"no {split} photo can be read: {_first_skipped(register, root, (folder,))}")


def _first_skipped(register: sqlite3.Connection, root: Path, folders: Iterable[str]) -> str:
    """The first problems of files, and of folders that can't be listed, below some folders."""
    patterns = [f"{folder}/%" for folder in folders]
    inside = f"FROM problem WHERE skipped AND ({' OR '.join(['path LIKE ?'] * len(patterns))})"
    more = scalar(register, f"SELECT count(*) {inside}", *patterns) - _MAX_SHOWN_PROBLEMS
    first = register.execute(
        f"SELECT path, problem {inside} ORDER BY path LIMIT {_MAX_SHOWN_PROBLEMS}", patterns
    )
    return "; ".join(f"{root / path} {problem}" for path, problem in first) + (
        f"; and {more} more" if more > 0 else ""
    )


def check_judgements(register: sqlite3.Connection, root: Path) -> None:
    """Raises UserError if two lines of qrels.csv contradict each other about the same images."""
    contradictory = register.execute("""
        SELECT line, relevance, query, gallery, first_line, first_relevance
        FROM (SELECT *, first_value(line) OVER pair AS first_line,
                     first_value(relevance) OVER pair AS first_relevance
              FROM judged WINDOW pair AS (PARTITION BY query_id, gallery_id ORDER BY line))
        WHERE relevance != first_relevance ORDER BY line LIMIT 1
    """)
    for line, relevance, query, gallery, first_line, first_relevance in contradictory:
        raise UserError(
            f"{root / 'qrels.csv'}: line {line}: says {relevance} of {query!r} and {gallery!r}, "
            f"but line {first_line} says {first_relevance} of the same images; remove one of the two"
        )


def check_training(params: Params, counts: training_photos.Counts) -> None:
    """Raises UserError if params.yaml has rows that can't be trained on these photos.

    `train` checks this again, but only after all weights are fetched. The rows decide no result of this
    stage, so they are none of its deps.
    """
    by_share: dict[float, dict[str, Objective]] = {}
    for row, model in params.models.items():
        share = 1.0 if isinstance(model.objective, NoObjective) else model.objective.label_share
        by_share.setdefault(share, {})[row] = model.objective
    for share, objectives in by_share.items():
        seen = label_share.counts(counts, share, params.seed)
        training_photos.check_rows(objectives, params.train, seen)


def qrels(register: sqlite3.Connection) -> Iterator[tuple[str, str, int]]:
    """Rows of schemas.QRELS: judgements by image id, sorted, without those about unreadable files.

    A gallery image with the very pixels of one that is judged relevant is relevant, too, unless it is judged
    itself.
    """
    rows = register.execute("""
        WITH copies AS (
            SELECT query_id, copy.image_id AS gallery_id FROM judged
            JOIN photo AS original ON original.path = judged.gallery
            JOIN photo AS copy USING (pixels_id)
            WHERE relevance = 1 AND copy.split = 'gallery' AND copy.image_id != original.image_id
        )
        SELECT query_id, gallery_id, relevance, min(derived) FROM (
            SELECT query_id, gallery_id, relevance, 0 AS derived FROM judged
            UNION ALL SELECT query_id, gallery_id, 1, 1 FROM copies
        ) GROUP BY 1, 2 ORDER BY 1, 2
    """)
    return (row[:3] for row in rows)


def count_judgements(register: sqlite3.Connection, judgements: int | None) -> dict[str, str] | None:
    """The metadata of schemas.QRELS; adds judgements that are left out to the problems.

    Args:
        judgements: the number of lines of qrels.csv; None, which is also returned, if it does not exist.
    """
    if judgements is None:
        return None
    used = scalar(register, "SELECT count(*) FROM judged")
    fault, left_out = "holds no judgement", judgements - used
    if left_out:
        line = scalar(register, "SELECT min(line) FROM judgement WHERE line NOT IN (SELECT line FROM judged)")
        fault = (
            f"{left_out} of {judgements} judgements are left out, about photos that can't be read; "
            f"the first is in line {line}"
        )
    if left_out or not used:
        labelled = scalar(
            register, "SELECT EXISTS (SELECT 1 FROM photo WHERE split = 'query' AND label IS NOT NULL)"
        )
        consequence = "labels say which images are relevant" if labelled else "nothing can be scored"
        add_problem(register, "qrels.csv", fault + ("" if used else f": {consequence}"))
    return {"judgements": str(judgements), "left_out": str(left_out)}


def add_contradictions(register: sqlite3.Connection) -> int:
    """Adds pictures under two labels to the problems. Returns the number of pairs."""
    pairs = 0
    for pair in duplicates.contradictions(register):
        consequence = "each keeps its own" if pair.crosses_parts else "neither label is used"
        note = (
            f"is labelled {pair.label_b!r}, but {pair.path_a!r} is the same image "
            f"and labelled {pair.label_a!r}: {consequence}"
        )
        add_problem(register, pair.path_b, note)
        pairs += 1
    return pairs


def summary(
    register: sqlite3.Connection, contradictions: int, shorter_side_px: int, file: Path = paths.PROBLEMS
) -> Iterator[str]:
    """What the user should know at the end, a line for each fact.

    Args:
        file: the table of all problems.
    """
    images = dict(register.execute("SELECT split, count(DISTINCT image_id) FROM photo GROUP BY split"))
    files = scalar(register, "SELECT count(*) FROM file")
    yield (
        ", ".join(f"{images.get(split, 0)} {split}" for split in duplicates.SPLITS)
        + f" images of {files} files"
    )
    if images:
        yield from _sizes(register, shorter_side_px)
    if contradictions:
        yield f"pairs of equal images under two labels: {contradictions}"
    trained = (
        "SELECT DISTINCT image_id, split FROM photo WHERE part = 'test' "
        "AND pixels_id IN (SELECT pixels_id FROM photo WHERE part = 'train')"
    )
    if both := scalar(register, f"SELECT count(*) FROM ({trained})"):
        yield f"LEAK: test images that are also in train: {both}; a trained model has seen them"
    if shared := scalar(register, "SELECT count(DISTINCT path_a) FROM leak WHERE kind = 'same_label'"):
        yield (
            f"LEAK: labels in both train and test: {shared}; "
            "scores of trained models don't tell how they do on new ones"
        )
    equal = scalar(register, "SELECT count(*) FROM leak WHERE kind != 'same_label'")
    if equal:
        yield f"pairs of equal images: {equal}"
    if equal or shared:
        yield f"all pairs are in {paths.LEAKS}"
    yield from problems(register, file)


def problems(register: sqlite3.Connection, file: Path) -> Iterator[str]:
    """A line for each kind of problem: their number, the most frequent ones, and the first ones.

    Args:
        file: the table of all problems.
    """
    kinds = {
        "files skipped": "skipped",
        "used, with a note": "NOT skipped AND NOT unread",
        "left alone": "unread",
    }
    for kind, chosen in kinds.items():
        chosen = f"FROM problem WHERE {chosen}"
        if not (count := scalar(register, f"SELECT count(*) {chosen}")):
            continue
        frequent = register.execute(
            f"SELECT count(*), problem {chosen} GROUP BY problem HAVING count(*) > 1 "
            f"ORDER BY count(*) DESC, min(path) LIMIT {_MAX_SHOWN_PROBLEMS}"
        )
        reasons = (
            "; ".join(
                f"{times:,} {printable(problem, _MAX_REASON_CHARACTERS)}" for times, problem in frequent
            )
            if count > _MAX_SHOWN_PROBLEMS
            else ""
        )
        first = register.execute(
            f"SELECT path, problem {chosen} ORDER BY path, problem LIMIT {_MAX_SHOWN_PROBLEMS}"
        )
        shown = "; ".join(
            f"{printable(path, _MAX_NAME_CHARACTERS)} {printable(problem, _MAX_REASON_CHARACTERS)}"
            for path, problem in first
        )
        more = f"; and {count - _MAX_SHOWN_PROBLEMS:,} more" if count > _MAX_SHOWN_PROBLEMS else ""
        yield f"{kind}: {count:,}{f' ({reasons})' if reasons else ''}: {shown}{more}"
    if scalar(register, "SELECT EXISTS (SELECT 1 FROM problem)"):
        yield f"{file} names each of these"


def _sizes(register: sqlite3.Connection, shorter_side_px: int) -> Iterator[str]:
    sides = "SELECT min(width, height) AS side, prepared_id FROM photo GROUP BY image_id, split"
    query = (
        "SELECT min(side), max(side), count(*), "
        f"count(*) FILTER (WHERE side > ? AND prepared_id IS NOT NULL) FROM ({sides})"
    )
    [(smallest, largest, images, shrunk)] = register.execute(query, (shorter_side_px,))
    shown = f"{smallest:,} to {largest:,}" if smallest < largest else f"{smallest:,}"
    yield f"shorter sides: {shown} px; shrunk to {shorter_side_px} px: {shrunk:,} of {images:,} images"


def manifest(register: sqlite3.Connection, part: str) -> Iterator[tuple[object, ...]]:
    """Rows of schemas.MANIFEST: the images of train or test, sorted by (image_id, split)."""
    return (image[: len(schemas.MANIFEST)] for image in photo_register.images(register, part))


def image_batches(
    cache: ImageCache, root: Path, register: sqlite3.Connection, part: str
) -> Iterator[pa.RecordBatch]:
    """Pass 2: rows of schemas.IMAGES in the order of ids, some megabytes at a time."""
    rows: list[tuple[str, str, str | None, bytes]] = []
    size = 0
    for image in photo_register.images(register, part):
        raw = [root / path for path in image.paths]
        with image_cache.unchanged(root, image.paths[0]):
            data = cache.stored_bytes(image.image_id, image.prepared_id is not None, raw)
        rows.append((image.image_id, image.split, image.prepared_id, data))
        size += len(data)
        if size >= _BATCH_BYTES:
            yield parquet.record_batch(rows, schemas.IMAGES)
            rows, size = [], 0
    if rows:
        yield parquet.record_batch(rows, schemas.IMAGES)


def preparation(register: sqlite3.Connection, part: str, cache: ImageCache) -> dict[str, str] | None:
    """Metadata of the training images: what decided the pixels of those that were shrunk or converted.

    It becomes part of a training's fingerprint, as images' ids are those of the raw files. None for the test,
    and where every file is stored unchanged.
    """
    replaced = scalar(
        register, "SELECT EXISTS (SELECT 1 FROM photo WHERE part = ? AND prepared_id IS NOT NULL)", part
    )
    return {"preparation": cache.fingerprint} if part == "train" and replaced else None


def write_problems(register: sqlite3.Connection, path: Path) -> None:
    """Writes the table of problems."""
    rows = register.execute("SELECT path, problem FROM problem ORDER BY path, problem")
    csv_files.write_csv(path, ("path", "problem"), rows)


def prepare_transfer(name: str) -> None:
    """Prepares a second test set. It has no training photos: a folder train/ in it is left alone.

    Raises:
        UserError: `transfer.sets` lacks the set, or the set has a fault.
    """
    params = cli.start_stage("preprocess_transfer")
    sets, shorter_side_px = params.transfer.sets, params.preprocess.shorter_side_px
    if name not in sets:
        fix = suggest(name, sets) if sets else "; there are none"
        raise UserError(f"{paths.PARAMS}: transfer.sets.{name} is unknown{fix}")
    root, problems_file = Path(sets[name]), paths.transfer_problems(name)
    raw_folder.check_exists(root, name)
    pa.set_memory_pool(pa.system_memory_pool())  # as in prepare
    with photo_register.temporary() as register:
        raw_folder.read(register, root)
        judgements = raw_tables.read_judgements(register, root)
        register.execute("DELETE FROM file WHERE split = 'train'")
        register.execute("DELETE FROM problem WHERE path = 'train' OR path LIKE 'train/%'")
        cache = ImageCache.open(paths.CACHE, shorter_side_px)
        attributes = AttributeCache.open(paths.CACHE, cache)
        register_photos(register, root, attributes, params.preprocess.on_bad_image)
        check_judgements(register, root)
        qrels_metadata = count_judgements(register, judgements)
        contradictions = add_contradictions(register)
        rows, batches = (
            photo_register.count_images(register, "test"),
            image_batches(cache, root, register, "test"),
        )
        parquet.write_shards(
            paths.transfer_images(name), schemas.IMAGES, batches, rows, schemas.IMAGES_PER_SHARD
        )
        parquet.write_rows(paths.transfer_manifest(name), schemas.MANIFEST, manifest(register, "test"))
        parquet.write_rows(paths.transfer_qrels(name), schemas.QRELS, qrels(register), qrels_metadata)
        write_problems(register, problems_file)
        for line in summary(register, contradictions, shorter_side_px, problems_file):
            log.info(line)


def main(argv: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.preprocess")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--set", metavar="SET", help="of transfer.sets, which is prepared instead of data/raw")
    which.add_argument("--set-of-stage", action="store_true", help="the set whose stage DVC runs")
    arguments = parser.parse_args(argv)
    if arguments.set_of_stage:
        prepare_transfer(cli.name_of_stage("--set-of-stage", "--set SET"))
    elif arguments.set is not None:
        prepare_transfer(arguments.set)
    else:
        prepare()


def prepare() -> None:
    """Prepares data/raw. Raises UserError: it has a fault, or rows of params.yaml can't be trained on it."""
    params = cli.start_stage("preprocess")
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool would keep memory that was freed.
    with photo_register.temporary() as register:
        raw_folder.read(register, paths.RAW)
        judgements = raw_tables.read_judgements(register, paths.RAW)
        columns = raw_attributes.read(register, paths.RAW)
        if not scalar(register, "SELECT EXISTS (SELECT 1 FROM file WHERE split = 'train')"):
            check_training(params, {})  # Before the other photos are decoded.
        cache = ImageCache.open(paths.CACHE, params.preprocess.shorter_side_px)
        attributes = AttributeCache.open(paths.CACHE, cache)
        register_photos(register, paths.RAW, attributes, params.preprocess.on_bad_image)
        check_judgements(register, paths.RAW)
        qrels_metadata = count_judgements(register, judgements)
        check_training(params, Counter(image.label for image in photo_register.images(register, "train")))
        contradictions = add_contradictions(register)
        parts: tuple[paths.Part, ...] = ("train", "test")
        for part in parts:
            batches = image_batches(cache, paths.RAW, register, part)
            rows, metadata = photo_register.count_images(register, part), preparation(register, part, cache)
            parquet.write_shards(
                paths.images(part), schemas.IMAGES, batches, rows, schemas.IMAGES_PER_SHARD, metadata
            )
            parquet.write_rows(paths.manifest(part), schemas.MANIFEST, manifest(register, part))
        rows_of_attributes = attribute_table.rows(register, attributes, paths.RAW, columns)
        parquet.write_rows(
            paths.ATTRIBUTES,
            attribute_table.schema(columns),
            rows_of_attributes,
            attribute_table.metadata(register, columns),
        )
        parquet.write_rows(paths.QRELS, schemas.QRELS, qrels(register), qrels_metadata)
        write_problems(register, paths.PROBLEMS)
        csv_files.write_csv(paths.LEAKS, Leak._fields, duplicates.leaks(register))
        for line in summary(register, contradictions, params.preprocess.shorter_side_px):
            log.info(line)


if __name__ == "__main__":
    cli.run(lambda: main(sys.argv[1:]))
