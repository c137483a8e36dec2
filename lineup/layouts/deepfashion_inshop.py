"""DeepFashion's In-shop Clothes Retrieval Benchmark."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lineup.errors import UserError, suggest
from lineup.layouts import listing
from lineup.layouts.layout import Role, Source, SourcePhoto
from lineup.layouts.list_files import read_lines, read_rows
from lineup.layouts.source_files import (
    counted,
    folder_with,
    prefix_of,
    require_folder,
    require_once,
    require_photos,
    unused,
)

_TITLE = "DeepFashion In-shop"
_LISTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")
_COLUMNS = "image_name item_id evaluation_status"
_ROLES: dict[str, tuple[Role, ...]] = {"train": ("train",), "query": ("query",), "gallery": ("gallery",)}
_FOLDER_IN_LIST = "img/"
_FOLDERS_OF_PHOTOS = ("Img/img/", "img/", "Img/")


class DeepFashionInShop:
    """list_eval_partition.txt, loose or in Eval/, with the photos in Img/img/, Img/ or img/.

    Its first line is the number of photos, its second a header. Each other line is a photo, its item, and
    train, query or gallery. The attribute category is the photo's folder: WOMEN/Dresses.
    Source: Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations,
        CVPR 2016, and the benchmark's README. Its top-k retrieval accuracy is Lineup's `top_k`.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        path = _list_file(source)
        # CelebA's list has the same name, and no items.
        return path is not None and any("item_id" in line for line in read_lines(path, _TITLE)[:3])

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        path = require_folder(_list_file(source), source, _TITLE, *_LISTS)
        files = listing.read(source)
        rows = _rows(path)
        prefix = _prefix(source, path, rows[0][1] if rows else "", set(files.photos))
        photos = []
        for line, name, item, status in rows:
            if status not in _ROLES:
                raise UserError(f"{path}: line {line}: has the status {status!r}{suggest(status, _ROLES)}")
            inside = name.removeprefix(_FOLDER_IN_LIST)
            category = "/".join(inside.split("/")[:-2])
            attributes = {"category": category} if category else {}
            photos.append(SourcePhoto(prefix + inside, item, _ROLES[status], attributes=attributes))
        require_photos([photo.name for photo in photos], set(files.photos), path)
        require_once(photos, path)
        counts = {status: sum(photo.roles == roles for photo in photos) for status, roles in _ROLES.items()}
        summary = (
            f"{_TITLE}: {counted(len({photo.label for photo in photos}), 'item')}, "
            f"{counted(counts['train'], 'training photo')}, "
            f"{counted(counts['query'], 'query', 'queries')} and "
            f"{counted(counts['gallery'], 'gallery photo')}"
        )
        return Source(photos, {}, summary, unused(files, source, photos, path))


def _list_file(source: Path) -> Path | None:
    root = folder_with(source, *_LISTS)
    return root and next(root / name for name in _LISTS if (root / name).exists())


def _rows(path: Path) -> list[tuple[int, str, str, str]]:
    """(line, photo, item, status) of each photo."""
    lines = read_lines(path, _TITLE)[:2]
    if len(lines) < 2 or not lines[0].strip().isdecimal() or lines[1].split() != _COLUMNS.split():
        raise UserError(
            f"{path}: does not begin with the number of photos and, in line 2, the header {_COLUMNS!r}; "
            "copy it from the data set's archive"
        )
    rows = [
        (line, name, item, status)
        for line, (name, item, status) in read_rows(path, _TITLE, _COLUMNS, header_lines=2)
    ]
    if len(rows) != int(lines[0]):
        raise UserError(
            f"{path}: line 1: says {counted(int(lines[0]), 'photo')}, and {len(rows):,} follow; "
            "copy the whole file again, or correct the number"
        )
    return rows


def _prefix(source: Path, path: Path, first_photo: str, existing: Collection[str]) -> str:
    """What stands before "WOMEN/..." in the names of the photos."""
    root = prefix_of(path.parent.parent if path.parent.name == "Eval" else path.parent, source)
    inside = first_photo.removeprefix(_FOLDER_IN_LIST)
    prefixes = [root + folder for folder in (*_FOLDERS_OF_PHOTOS, "")]
    for prefix in prefixes:
        if prefix + inside in existing:
            return prefix
    # This one photo may be missing.
    return next((prefix for prefix in prefixes if (source / prefix).is_dir()), prefixes[0])


LAYOUT = DeepFashionInShop()
