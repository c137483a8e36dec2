"""CUB-200-2011: photos of 200 species of birds, of which the first 100 are for training."""

from __future__ import annotations

import re
from pathlib import Path

from lineup.errors import UserError
from lineup.layouts import listing
from lineup.layouts.layout import Role, Source, SourcePhoto
from lineup.layouts.list_files import read_rows
from lineup.layouts.listing import Listing
from lineup.layouts.source_files import (
    counted,
    folder_with,
    prefix_of,
    require_folder,
    require_once,
    require_photos,
    subfolders,
    unused,
)

_TITLE = "CUB-200-2011"
_TRAINING_CLASSES = 100
_TABLES = ("images.txt", "image_class_labels.txt", "classes.txt")
_FIRST_CLASS = "001.Black_footed_Albatross"
_CLASS_FOLDER = re.compile(r"(\d{3})\.\w")


class CUB200:
    """images/001.Black_footed_Albatross/… with images.txt, image_class_labels.txt and classes.txt, or alone.

    Classes 1 to 100 are for training; every photo of the other 100 is a query and a gallery photo. Without
    the three tables, a folder's number is that of its class. train_test_split.txt belongs to another task, in
    which all classes are trained, and is not read.
    Source: Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011. The split by classes is that of Oh Song
        et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016, section 5, whose
        Recall@K is Lineup's `top_k`.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        images = _images(source)
        if images is None:
            return False
        numbers = (_CLASS_FOLDER.match(folder.name) for folder in subfolders(images))
        has_test = any(match and int(match[1]) > _TRAINING_CLASSES for match in numbers)
        # A few of its classes, without the tables, are folders of labels as any others.
        return has_test or any(path.exists() for path in _tables(source, images))

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        images = require_folder(_images(source), source, _TITLE, f"images/{_FIRST_CLASS}")
        files = listing.read(source)
        tables = _tables(source, images)
        if any(table.exists() for table in tables):
            photos = _by_tables(source, images, files)
        else:
            photos = _by_folders(source, images, files)
        train, test = (
            [photo for photo in photos if ("train" in photo.roles) is used] for used in (True, False)
        )
        if not test:
            raise UserError(
                f"{images}: has no class above {_TRAINING_CLASSES}, the test of {_TITLE}; unpack all of it, "
                "or name this folder as SOURCE, and Lineup splits its labels"
            )
        parts = (
            f"{counted(len(part), noun)} of {counted(len({p.label for p in part}), 'class', 'classes')}"
            for part, noun in ((train, "training photo"), (test, "test photo"))
        )
        summary = f"{_TITLE}: {' and '.join(parts)}; every test photo is a query and a gallery photo"
        return Source(photos, {}, summary, unused(files, source, photos, *tables))


def _images(source: Path) -> Path | None:
    """The folder of the classes: the source itself, its images/, or images/ in a folder of the source."""
    if (source / _FIRST_CLASS).is_dir():
        return source
    folder = folder_with(source, f"images/{_FIRST_CLASS}")
    return folder and folder / "images"


def _tables(source: Path, images: Path) -> list[Path]:
    return [images.parent / name for name in _TABLES if images != source]


def _photo(name: str, number: int, label: str) -> SourcePhoto:
    roles: tuple[Role, ...] = ("train",) if number <= _TRAINING_CLASSES else ("query", "gallery")
    return SourcePhoto(name, label, roles)


def _by_tables(source: Path, images: Path, files: Listing) -> list[SourcePhoto]:
    listed_in, classes_of_images, classes = (images.parent / name for name in _TABLES)
    names = _mapping(listed_in, "image_id path")
    numbers = _mapping(classes_of_images, "image_id class_id")
    labels = _mapping(classes, "class_id name")
    prefix, photos = prefix_of(images, source), []
    for image_id, name in names.items():
        number = numbers.get(image_id)
        if number is None:
            raise UserError(f"{classes_of_images}: has no line for image {image_id}, {name!r}; add it")
        if number not in labels or not number.isdecimal():
            raise UserError(f"{classes}: has no line for class {number}, that of {name!r}; add it")
        photos.append(_photo(prefix + name, int(number), labels[number]))
    require_photos([photo.name for photo in photos], set(files.photos), listed_in)
    require_once(photos, listed_in)
    return photos


def _mapping(path: Path, columns: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for line, (key, value) in read_rows(path, _TITLE, columns):
        if key in mapping:
            raise UserError(f"{path}: line {line}: {columns.split()[0]} {key} occurs twice; remove one line")
        mapping[key] = value
    return mapping


def _by_folders(source: Path, images: Path, files: Listing) -> list[SourcePhoto]:
    prefix, photos = prefix_of(images, source), []
    for name in (name for name in files.photos if name.startswith(prefix)):
        label, inside, _ = name.removeprefix(prefix).partition("/")
        match = _CLASS_FOLDER.match(label)
        if not (inside and match):
            raise UserError(
                f"{source / name}: is in no folder of a class, such as {images / _FIRST_CLASS}; move it away"
            )
        photos.append(_photo(name, int(match[1]), label))
    return photos


LAYOUT = CUB200()
