"""The competition's JSON: for each query photo the names of its k nearest gallery photos.

It has one of two shapes. groups: {"groupname": "us", "images": {"query.jpg": ["nearest.jpg", ...]}}, as the
retrieval competitions of university courses take it. list: [{"filename": "query.jpg",
"gallery_images": ["nearest.jpg", ...]}].
Names are those of the files, or with `--names path` the paths below test/query and test/gallery.
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
Names = dict[str, list[str]]  # {image_id: a name for each file that holds the image}

_GALLERY = paths.RAW / "test" / "gallery"


def names(manifest: pa.Table, split: Literal["query", "gallery"], naming: Naming) -> Names:
    """The names of a split's photos.

    Raises:
        UserError: two photos share a name.
    """
    rows = manifest.filter(pc.field("split") == split)
    folder = paths.RAW / "test" / split
    path_of: dict[str, str] = {}
    result: Names = {}
    for image_id, image_paths in zip(
        rows.column("image_id").to_pylist(), rows.column("paths").to_pylist(), strict=True
    ):
        for path in image_paths:
            name = PurePosixPath(path).name if naming == "file" else path.removeprefix(f"test/{split}/")
            if name in path_of:
                raise UserError(
                    f"{folder}: {path_of[name]!r} and {path!r} are both named {name!r}; "
                    "use --names path to tell them apart"
                )
            path_of[name] = path
            result.setdefault(image_id, []).append(name)
    return result


def nearest_names(
    ranking: Ranking,
    queries: Names,
    gallery: Names,
    copies: Mapping[str, Sequence[str]],
    k: int,
    depth: int,
    least: float | None = None,
) -> dict[str, list[str]]:
    """The k nearest gallery photos of every query photo.

    Files with the same bytes are one image in a ranking. Here every file of a query image gets the same
    photos, and the files of a gallery image follow one another.
    A ranking leaves out gallery images that show the query's own picture in other bytes. The competition's
    server counts such a photo like any other. So it comes first here, as nothing can be nearer.

    Args:
        copies: {query_id: ids of the gallery images left out for that reason}.
        k: number of names per query photo.
        depth: retrieve.depth of params.yaml, which an error explains.
        least: photos with a lower score are left out, so that a query has fewer than k, or none.
    Returns:
        {name of a query photo: k names of gallery photos, nearest first}, sorted.
    Raises:
        UserError: the gallery or a ranking has fewer than k photos.
    """
    num_photos = sum(map(len, gallery.values()))
    if least is None and k > num_photos:
        raise UserError(
            f"-k is {k}, but {_GALLERY} has {num_photos} photos that can be read; use -k {num_photos} or less"
        )
    nearest: dict[str, list[str]] = {}
    listed = ranking.positions >= 0
    if least is not None:
        listed &= ranking.scores >= least
    for query_id, positions, chosen in zip(
        ranking.query_ids.tolist(), ranking.positions, listed, strict=True
    ):
        ids = [*copies.get(query_id, ()), *ranking.gallery_ids[positions[chosen]].tolist()]
        photos = [name for image_id in ids for name in gallery[image_id]][:k]
        for name in queries[query_id]:
            if least is None and len(photos) < k:
                raise UserError(
                    f"-k is {k}, but the ranking of query {name!r} ends after {len(photos)} photos; "
                    f"{_fix(k, len(photos), depth)}"
                )
            nearest[name] = photos
    return dict(sorted(nearest.items()))


def _fix(k: int, ranked: int, depth: int) -> str:
    """What to do where a ranking has only `ranked` photos."""
    if ranked == 0:
        return f"the query itself and its junk don't count: put other photos into {_GALLERY}"
    if depth < k:
        return f"set retrieve.depth to {k} or more in {paths.PARAMS} and run `dvc repro`"
    return (
        "the query itself and its junk don't count: "
        "use a lower -k, or run `dvc repro` if retrieve.depth was changed"
    )


def document(nearest: Mapping[str, Sequence[str]], shape: Shape, group: str | None) -> Any:
    """The content of the JSON.

    Args:
        nearest: of `nearest_names`.
        group: the name of the group that submits, in shape "groups" only.
    Raises:
        UserError: the group's name is missing, cannot be shown, or is given for shape "list".
    """
    if shape == "list":
        if group is not None:
            raise UserError("--group has no place in --shape list; leave it out")
        return [{"filename": query, "gallery_images": list(photos)} for query, photos in nearest.items()]
    if not group or not group.strip():
        raise UserError("--group is missing: --shape groups names the group that submits; use --group NAME")
    if not group.isprintable():
        raise UserError(f"--group is {group!r}, which holds characters that can't be shown; remove them")
    return {"groupname": group, "images": {query: list(photos) for query, photos in nearest.items()}}


def encode(content: Any) -> bytes:
    """The JSON's bytes, the same for the same content."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def check(body: bytes, queries: Iterable[str], gallery: Iterable[str], k: int, fewer: bool = False) -> None:
    """Checks the bytes that are sent: every query occurs once, with k different names of the gallery.

    Args:
        fewer: there may also be fewer than k.
    Raises:
        UserError: a query breaks this rule; the message names the query and the fault.
    """
    # Objects as lists of (key, value): a dict would lose a repeated key.
    entries = _entries(json.loads(body, object_pairs_hook=list))
    occurrences, wanted, known = Counter(name for name, _ in entries), set(queries), set(gallery)
    for name in sorted(wanted - occurrences.keys()):
        raise UserError(f"the submission lacks the query {name!r}")
    for name, count in occurrences.items():
        if name not in wanted:
            raise UserError(f"the submission answers {name!r}, which is not a query")
        if count > 1:
            raise UserError(f"the submission answers the query {name!r} {count} times")
    for name, photos in entries:
        unknown = [photo for photo in photos if photo not in known]
        if unknown:
            raise UserError(
                f"the submission answers the query {name!r} with {unknown[0]!r}, which is not in the gallery"
            )
        if len(set(photos)) != len(photos) or len(photos) > k or (len(photos) < k and not fewer):
            raise UserError(
                f"the submission answers the query {name!r} with {len(set(photos))} different photos "
                f"of {len(photos)}, not {k}"
            )


def _entries(content: Any) -> list[tuple[str, list[str]]]:
    """(query, its photos) of a document in either shape, whose objects are lists of (key, value)."""
    if content and isinstance(content[0], tuple):
        return dict(content)["images"]
    return [(dict(entry)["filename"], dict(entry)["gallery_images"]) for entry in content]
