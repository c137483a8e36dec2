"""The competition's JSON: of each query photo the names of its k nearest gallery photos, in one of two
shapes.

groups: {"groupname": "us", "images": {"query.jpg": ["nearest.jpg", ...]}}, as the retrieval competitions of
university courses take it; list: [{"filename": "query.jpg", "gallery_images": ["nearest.jpg", ...]}].
Names are those of the files, with --names path the paths below test/query and test/gallery.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.storage.rankings import Ranking

Shape = Literal["groups", "list"]
Naming = Literal["file", "path"]
Names = dict[str, list[str]]  # of each image, by image_id: one name per file that holds it


def names(manifest: pa.Table, split: Literal["query", "gallery"], naming: Naming) -> Names:
    """UserError if two photos of the split share a name."""
    rows = manifest.filter(pc.field("split") == split)
    folder = paths.RAW / "test" / split
    first: dict[str, str] = {}
    result: Names = {}
    for image_id, places in zip(
        rows.column("image_id").to_pylist(), rows.column("paths").to_pylist(), strict=True
    ):
        for place in places:
            name = PurePosixPath(place).name if naming == "file" else place.removeprefix(f"test/{split}/")
            if name in first:
                raise UserError(
                    f"{folder}: {first[name]!r} and {place!r} are both named {name!r}; say --names path to tell them apart"
                )
            first[name] = place
            result.setdefault(image_id, []).append(name)
    return result


def nearest_names(
    ranking: Ranking,
    queries: Names,
    gallery: Names,
    copies: Mapping[str, Sequence[str]],
    k: int,
    deepest: int,
) -> dict[str, list[str]]:
    """{name of a query photo: k names of gallery photos, nearest first}, sorted.

    Files of the same bytes are one image in a ranking: each such file of a query has the same answers, and
    those of an image
    in the gallery follow each other. copies: by query_id, gallery images that the ranking leaves out as the
    query's picture in other bytes. A competition's server knows files alone, and counts such a photo as any
    other: it comes first, as nothing
    can be nearer. deepest: the retrieve.depth that was asked for. UserError if a ranking is too short.
    """
    photos = sum(map(len, gallery.values()))
    if k > photos:
        raise UserError(
            f"-k is {k}, but {paths.RAW / 'test' / 'gallery'} has {photos} photos that can be read; say -k {photos} or less"
        )
    found: dict[str, list[str]] = {}
    for query_id, positions in zip(ranking.query_ids.tolist(), ranking.positions, strict=True):
        ids = [*copies.get(query_id, ()), *ranking.gallery_ids[positions[positions >= 0]].tolist()]
        answers = [name for image_id in ids for name in gallery[image_id]][:k]
        for name in queries[query_id]:
            if len(answers) < k:
                raise UserError(
                    f"-k is {k}, but the ranking of query {name!r} ends after {len(answers)} photos; {_cure(k, len(answers), deepest)}"
                )
            found[name] = answers
    return dict(sorted(found.items()))


def _cure(k: int, ranked: int, deepest: int) -> str:
    if ranked == 0:
        return f"the query itself and its junk don't count: put other photos into {paths.RAW / 'test' / 'gallery'}"
    if deepest < k:
        return f"set retrieve.depth to {k} or more in {paths.PARAMS} and run `dvc repro`"
    return "the query itself and its junk don't count: say a lower -k, or run `dvc repro` if retrieve.depth was changed"


def document(found: Mapping[str, Sequence[str]], shape: Shape, group: str | None) -> Any:
    """UserError if the shape needs a group's name, or has no place for one."""
    if shape == "list":
        if group is not None:
            raise UserError("--group has no place in --shape list; leave it out")
        return [{"filename": query, "gallery_images": list(answers)} for query, answers in found.items()]
    if not group or not group.strip():
        raise UserError("--group is missing: --shape groups names the group that submits; say --group NAME")
    if not group.isprintable():
        raise UserError(f"--group is {group!r}, which holds characters that can't be shown; write it plainly")
    return {"groupname": group, "images": {query: list(answers) for query, answers in found.items()}}


def encode(content: Any) -> bytes:
    """The same document gives the same bytes."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def check(body: bytes, queries: Iterable[str], gallery: Iterable[str], k: int) -> None:
    """UserError unless every query is there once, with k different names each, all in the gallery.

    Looks at what is sent.
    """
    content = json.loads(body, object_pairs_hook=lambda pairs: pairs)  # keeps keys that are there twice
    entries = _entries(content)
    counted, wanted, known = Counter(name for name, _ in entries), set(queries), set(gallery)
    for name in sorted(wanted - counted.keys()):
        raise UserError(f"the submission lacks the query {name!r}")
    for name, count in counted.items():
        if name not in wanted:
            raise UserError(f"the submission answers {name!r}, which is no query")
        if count > 1:
            raise UserError(f"the submission answers the query {name!r} {count} times")
    for name, answers in entries:
        strangers = [answer for answer in answers if answer not in known]
        if strangers:
            raise UserError(
                f"the submission answers the query {name!r} with {strangers[0]!r}, which is not in the gallery"
            )
        if len(answers) != k or len(set(answers)) != k:
            raise UserError(
                f"the submission answers the query {name!r} with {len(set(answers))} different photos of {len(answers)}, not {k}"
            )


def _entries(content: Any) -> list[tuple[str, list[str]]]:
    """(query, answers) of a document whose objects are lists of pairs."""
    pairs = dict(content) if content and isinstance(content[0], tuple) else None
    if pairs is not None:
        return [(name, answers) for name, answers in pairs["images"]]
    return [(dict(entry)["filename"], dict(entry)["gallery_images"]) for entry in content]
