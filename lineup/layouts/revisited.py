"""Revisited Oxford and Paris: landmarks, searched with parts of photos, at three levels of difficulty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lineup.errors import UserError
from lineup.layouts import listing, restricted_pickle
from lineup.layouts.layout import Judgement, Source, SourcePhoto
from lineup.layouts.listing import Listing
from lineup.layouts.source_files import (
    counted,
    first_names,
    folder_with,
    prefix_of,
    require_folder,
    require_once,
    unused,
)
from lineup.photos import raw_folder

_TITLES = {"gnd_roxford5k.pkl": "Revisited Oxford", "gnd_rparis6k.pkl": "Revisited Paris"}
_PHOTO_FOLDERS = ("jpg", "images")
_KINDS = ("easy", "hard", "junk")
# Table -> which photos are relevant, and which are junk; the others are not relevant.
_EASY, _MEDIUM, _HARD = raw_folder.OTHER_PROTOCOLS
_PROTOCOLS = {
    _EASY: (("easy",), ("hard", "junk")),
    _MEDIUM: (("easy", "hard"), ("junk",)),
    _HARD: (("hard",), ("easy", "junk")),
}


class _Query(NamedTuple):
    """photos: kind -> positions in the gallery."""

    name: str
    crop: tuple[float, float, float, float]
    photos: dict[str, list[int]]


class Revisited:
    """gnd_roxford5k.pkl or gnd_rparis6k.pkl, with the photos in jpg/.

    A query is the part `bbx` of its photo, which is not in the gallery. Easy: easy photos are relevant, hard
    ones and junk are removed. Medium: easy and hard ones are relevant, junk is removed. Hard: hard ones are
    relevant, easy ones and junk are removed. A query without a relevant photo does not count.
    Source: Radenović et al., Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking, CVPR
        2018, and `example_evaluate.py` of its authors. They average precision by trapezoids, where Lineup's
        `map_k` sums it at each relevant rank.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        return folder_with(source, *_TITLES) is not None

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        root = require_folder(folder_with(source, *_TITLES), source, "Revisited Oxford or Paris", *_TITLES)
        files = listing.read(source)
        tables = [root / name for name in _TITLES if (root / name).exists()]
        if len(tables) > 1:
            raise UserError(
                f"{root}: holds {tables[0].name} and {tables[1].name}; put each into a folder of its own"
            )
        (path,) = tables
        content = _load(path)
        gallery, query_names = (_texts(content[key], f"{path}: {key}") for key in ("imlist", "qimlist"))
        names = _names_on_disk(path, [*gallery, *query_names], source, files)
        queries = _read_queries(path, content["gnd"], query_names, len(gallery))
        photos = [SourcePhoto(names[query.name], roles=("query",), crop=query.crop) for query in queries]
        photos += [SourcePhoto(names[photo], roles=("gallery",)) for photo in gallery]
        require_once(photos, path)
        judgements = {
            table: list(_judgements(queries, gallery, names, *kinds)) for table, kinds in _PROTOCOLS.items()
        }
        summary = (
            f"{_TITLES[path.name]}: {counted(len(queries), 'query', 'queries')}, cropped from their photos, "
            f"and {counted(len(gallery), 'gallery photo')}; qrels.csv is the medium protocol; to switch, "
            f"copy {_EASY} or {_HARD} over it"
        )
        return Source(
            photos,
            {"qrels.csv": judgements[_MEDIUM], **judgements},
            summary,
            unused(files, source, photos, path),
        )


def _judgements(
    queries: Sequence[_Query],
    gallery: Sequence[str],
    names: Mapping[str, str],
    relevant: Sequence[str],
    junk: Sequence[str],
) -> Iterator[Judgement]:
    """The lines of one protocol.

    Args:
        names: of a photo in the pickle -> below the source.
        relevant, junk: the kinds of photos that are.
    """
    for query in queries:
        for kinds, value in ((relevant, 1), (junk, -1)):
            for number in (number for kind in kinds for number in query.photos[kind]):
                yield Judgement(names[query.name], names[gallery[number]], value)


def _load(path: Path) -> dict[str, Any]:
    content = restricted_pickle.load(path)
    if not isinstance(content, dict) or not {"gnd", "imlist", "qimlist"} <= content.keys():
        raise UserError(f"{path}: has no gnd, imlist and qimlist; get the file from its authors")
    return content


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise UserError(f"{where}: is not a list of names; get the file from its authors")
    return list(value)


def _read_queries(path: Path, truths: Any, names: Sequence[str], gallery_size: int) -> list[_Query]:
    if not isinstance(truths, list | tuple) or len(truths) != len(names):
        raise UserError(f"{path}: gnd and qimlist differ in length; get the file from its authors")
    return [
        _query(name, truth, gallery_size, f"{path}: gnd[{number}]")
        for number, (name, truth) in enumerate(zip(names, truths, strict=True))
    ]


def _query(name: str, truth: Any, gallery_size: int, where: str) -> _Query:
    if not isinstance(truth, dict) or not {"bbx", *_KINDS} <= truth.keys():
        raise UserError(f"{where}: has no bbx, easy, hard and junk; get the file from its authors")
    box = _numbers(truth["bbx"], 4, f"{where}: bbx")
    if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
        raise UserError(f"{where}: bbx is not left, top, right and bottom; get the file from its authors")
    photos: dict[str, list[int]] = {}
    kinds: dict[int, str] = {}
    for kind in _KINDS:
        photos[kind] = [int(number) for number in _numbers(truth[kind], gallery_size, f"{where}: {kind}")]
        for number in photos[kind]:
            if not 0 <= number < gallery_size:
                raise UserError(
                    f"{where}: {kind} has photo {number}, and imlist ends with photo {gallery_size - 1}; "
                    "get the file from its authors"
                )
            if number in kinds:
                raise UserError(
                    f"{where}: has photo {number} as {kinds[number]} and as {kind}; remove it from one list"
                )
            kinds[number] = kind
    return _Query(name, (box[0], box[1], box[2], box[3]), photos)


def _numbers(value: Any, most: int, where: str) -> list[float]:
    if (
        not isinstance(value, list | tuple)
        or len(value) > most
        or not all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    ):
        raise UserError(f"{where}: is not a list of at most {most:,} numbers; get the file from its authors")
    return [float(number) for number in value]


def _names_on_disk(path: Path, wanted: Sequence[str], source: Path, files: Listing) -> dict[str, str]:
    """Each photo's name in the pickle, mostly without folder and ending -> its name below the source."""
    folders = [path.parent / name for name in _PHOTO_FOLDERS if (path.parent / name).is_dir()]
    prefix = prefix_of(folders[0] if folders else path.parent, source)
    on_disk = {_stem(name): name for name in files.photos if name.startswith(prefix)}
    missing = [name for name in wanted if _stem(name) not in on_disk]
    if missing:
        raise UserError(
            f"{source / prefix}: lacks {counted(len(missing), 'photo')} of the {len(wanted):,} in "
            f"{path.name}: {first_names(missing)}; unpack all photos there"
        )
    return {name: on_disk[_stem(name)] for name in wanted}


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".jpg")


LAYOUT = Revisited()
