"""data/raw -> data/prepared: every photo checked, hashed, labelled and packed into shards, once for all models.

Pass 1, in worker processes: read, hash and decode each file (only if its bytes were never seen: the side cache knows).
Pass 2, in order of ids: write the shards from the raw files, or from the side cache where an image was shrunk or converted.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from stages.lib import cli, duplicates, paths, raw_data, raw_tables, tables
from stages.lib.duplicates import Leak, Photo
from stages.lib.errors import UserError
from stages.lib.examination import examine
from stages.lib.image_cache import Facts, ImageCache
from stages.lib.images import BadImage
from stages.lib.raw_data import RawData
from stages.lib.raw_tables import Judgement

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
    images = prepared.of_part(part)
    facts = [prepared.facts[image_id] for image_id, _ in images]
    known = [next((photo.label for photo in photos if photo.label is not None), None) for photos in images.values()]
    columns = {
        "image_id": [fact.image_id for fact in facts],
        "split": [split for _, split in images],
        "label": [None if (part, fact.pixels_id) in doubtful else label for fact, label in zip(facts, known, strict=True)],
        "paths": [[photo.path for photo in photos] for photos in images.values()],
        "pixels_id": [fact.pixels_id for fact in facts],
        "width": [fact.width for fact in facts],
        "height": [fact.height for fact in facts],
        "format": [fact.format for fact in facts],
    }
    return pa.Table.from_pydict(columns, tables.MANIFEST)


def qrels(judgements: Iterable[Judgement], prepared: Prepared) -> pa.Table:
    """Judgements by image id, sorted. Those about unreadable files are left out; two that differ are a UserError."""
    ids = {photo.path: photo.image_id for photo in prepared.photos}
    seen: dict[tuple[str, str], Judgement] = {}
    for judgement in judgements:
        if judgement.query not in ids or judgement.gallery not in ids:
            continue
        earlier = seen.setdefault((ids[judgement.query], ids[judgement.gallery]), judgement)
        if earlier.relevance != judgement.relevance:
            raise UserError(
                f"qrels.csv: line {judgement.line}: says {judgement.relevance} of {judgement.query!r} and {judgement.gallery!r}, "
                f"but line {earlier.line} says {earlier.relevance} of the same images; remove one of the two"
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
        yield f"files skipped: {len(prepared.unreadable)} ({'; '.join(f'{count} {reason}' for reason, count in reasons.most_common(5))})"
    if prepared.contradictions:
        yield f"pairs of equal images under two labels: {len(prepared.contradictions)}"
    train = {photo.pixels_id for photo in prepared.photos if photo.split == "train"}
    both = sum(photos[0].pixels_id in train for (_, split), photos in prepared.images.items() if split != "train")
    if both:
        yield f"LEAK: test images that are also in train: {both}; a trained model has seen them"
    shared = {leak.path_a for leak in prepared.leaks if leak.kind == "same_label"}
    if shared:
        yield f"LEAK: labels in both train and test: {len(shared)}; scores of trained models don't tell how they do on new ones"
    equal = sum(leak.kind != "same_label" for leak in prepared.leaks)
    if equal:
        yield f"pairs of equal images: {equal}"
    if prepared.leaks:
        yield f"all pairs are in {paths.LEAKS}"
    if prepared.unreadable or raw.problems or prepared.contradictions:
        yield f"all problems are in {paths.PROBLEMS}"


def check(raw: RawData, prepared: Prepared, on_bad_image: str) -> None:
    """UserError if bad images are not to be skipped, or leave nothing to search or to search with."""
    bad = prepared.unreadable
    if bad and on_bad_image == "fail":
        raise UserError(f"{_first(raw, bad)}; mend or remove what is bad, or set preprocess.on_bad_image to 'skip'")
    for split in ("query", "gallery"):
        if not any(key[1] == split for key in prepared.images):
            raise UserError(f"no {split} photo can be read: {_first(raw, [entry for entry in bad if raw.names[entry[0]] == split])}")


def _first(raw: RawData, bad: list[tuple[str, str]]) -> str:
    return "; ".join(f"{raw.root / name} {reason}" for name, reason in bad[:3]) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else "")


def image_batches(cache: ImageCache, root: Path, prepared: Prepared, part: str) -> Iterator[pa.RecordBatch]:
    """Pass 2: rows of tables.IMAGES in order, some megabytes at a time."""
    rows: list[tuple[str, str, str | None, bytes]] = []
    size = 0
    for (image_id, split), photos in prepared.of_part(part).items():
        facts = prepared.facts[image_id]
        try:
            data = cache.stored(facts, [root / photo.path for photo in photos])
        except BadImage as error:
            raise UserError(f"{root / photos[0].path}: {error}; run again once nothing writes to {root}") from None
        rows.append((image_id, split, facts.prepared_id or None, data))
        size += len(data)
        if size >= _BATCH_BYTES:
            yield _batch(rows)
            rows, size = [], 0
    if rows:
        yield _batch(rows)


def preparation(prepared: Prepared, part: str, cache: ImageCache) -> dict[str, str] | None:
    """What decided the training images' pixels besides the files, since a training is kept by their ids; None if nothing did."""
    replaced = part == "train" and any(prepared.facts[image_id].prepared_id for image_id, _ in prepared.of_part(part))
    return {"preparation": cache.folder.name} if replaced else None


def _batch(rows: list[tuple[str, str, str | None, bytes]]) -> pa.RecordBatch:
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
    judgements = raw_tables.read_judgements(raw.root, raw.names)
    cache = ImageCache.open(paths.CACHE, params.preprocess.max_side)
    prepared = assemble(raw, examine(cache, raw.root, list(raw.names), cli.threads()))
    check(raw, prepared, params.preprocess.on_bad_image)
    judged = qrels(judgements, prepared)
    parts: tuple[paths.Part, ...] = ("train", "test")
    for part in parts:
        batches = image_batches(cache, raw.root, prepared, part)
        rows, metadata = len(prepared.of_part(part)), preparation(prepared, part, cache)
        tables.write_shards(paths.images(part), tables.IMAGES, batches, rows, tables.IMAGES_PER_SHARD, metadata)
        tables.write_table(paths.manifest(part), manifest(prepared, part))
    tables.write_table(paths.QRELS, judged)
    _write_csv(paths.PROBLEMS, ("path", "problem"), problems(raw, prepared))
    _write_csv(paths.LEAKS, Leak._fields, prepared.leaks)
    for line in summary(raw, prepared):
        cli.log.info(line)


if __name__ == "__main__":
    cli.run(main)
