"""Hugging Face's `imagefolder`: folders for train, validation and test, perhaps with metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lineup.errors import UserError, suggest
from lineup.layouts import listing, table_files, table_photos
from lineup.layouts.layout import Source, SourcePhoto
from lineup.layouts.listing import Listing
from lineup.layouts.photo_finder import PhotoFinder
from lineup.layouts.source_files import counted, prefix_of, subfolders, unused
from lineup.photos.raw_tables import normal_label

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PATH_COLUMN, _LABEL_COLUMN = "file_name", "label"
_TOP_FOLDER = "data"
# Names of folders, as the library `datasets` knows them (SPLIT_KEYWORDS in its data_files.py).
_TRAIN = frozenset({"train", "training"})
_TEST = frozenset({"validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"})
_BYTES_SEARCHED = 2**16


class HuggingFaceImageFolder:
    """metadata.csv, .jsonl or .parquet with the column file_name, or folders of labels in train/ and test/.

    The metadata lie in the source, in data/, or in each of their folders; paths are relative to them. A photo
    below train/ is for training, one below validation/ or test/ for the test, where Lineup decides which are
    queries. Without such folders, or with train/ alone, Lineup decides everything. The label is the column
    label if there is one, else the photo's folder. Further columns are attributes.
    Source: the documentation of `datasets`, "Create an image dataset", and its folder_based_builder.py.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        return any(map(_names_files, _metadata(source))) or _has_splits(source)

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        files, tables = listing.read(source), _metadata(source)
        photos = list(_by_metadata(source, tables, files)) if tables else _by_folders(files)
        origin = "from the column 'label'"
        if not any(photo.label for photo in photos):
            photos, origin = _with_labels_of_folders(photos), "from folders"
        splits: list[str | None] = [_split(photo.name) for photo in photos]
        if {*splits} == {"train"}:  # It is the name for all photos where nobody split them.
            splits = [None] * len(photos)
        photos = [
            replace(photo, roles=("train",) if split == "train" else (), test_only=split == "test")
            for photo, split in zip(photos, splits, strict=True)
        ]
        counts = {
            "for training": splits.count("train"),
            "for the test": splits.count("test"),
            "for Lineup to split": splits.count(None),
            "left out": len(files.photos) - len(photos),
        }
        parts = [f"{counted(number, 'photo')} {use}" for use, number in counts.items() if number]
        labels = f"labels {origin}" if any(photo.label for photo in photos) else "no labels"
        summary = f"Hugging Face imagefolder: {', '.join(parts)}; {labels}"
        return Source(photos, {}, summary, unused(files, source, photos, *tables))


def _metadata(source: Path) -> list[Path]:
    """The metadata files in the source, in data/, and in the folders of splits there."""
    tops = [folder for folder in (source, source / _TOP_FOLDER) if folder.is_dir()]
    splits = [f for top in tops for f in subfolders(top) if f.name.casefold() in _TRAIN | _TEST]
    return [folder / name for folder in (*tops, *splits) for name in _METADATA if (folder / name).is_file()]


def _names_files(table: Path) -> bool:
    """Whether a table has the column, which is at the beginning of a text and at the end of Parquet."""
    with table.open("rb") as file:
        head = file.read(_BYTES_SEARCHED)
        file.seek(max(0, table.stat().st_size - _BYTES_SEARCHED))
        return _PATH_COLUMN.encode() in head + file.read()


def _has_splits(source: Path) -> bool:
    """Whether the source, or data/ in it, has the folders of splits, for training and test, and no others."""
    top = source / _TOP_FOLDER if (source / _TOP_FOLDER).is_dir() else source
    names = {path.name.casefold() for path in subfolders(top)}
    if not (names & _TRAIN and names & _TEST) or not names <= _TRAIN | _TEST:
        return False
    is_lineups_own = any((top / "test" / split).is_dir() for split in ("query", "gallery"))
    return not is_lineups_own and not any(top.glob("*.txt"))


def _split(name: str) -> str | None:
    """The split of a photo, "train" or "test", by the first two folders of its name; None without one."""
    for folder in name.casefold().split("/")[:-1][:2]:
        if folder in _TRAIN | _TEST:
            return "train" if folder in _TRAIN else "test"
    return None


def _by_metadata(source: Path, tables: Sequence[Path], files: Listing) -> Iterator[SourcePhoto]:
    read: dict[str, Path] = {}
    for path in tables:
        beside = next((other for other in tables if other != path and other.parent == path.parent), None)
        if beside is not None:
            raise UserError(f"{path.parent}: holds {path.name} and {beside.name}; remove one of them")
        table = table_files.read(path, [_PATH_COLUMN])
        if _PATH_COLUMN not in table.columns:
            raise UserError(f"{path}: has no column '{_PATH_COLUMN}'{suggest(_PATH_COLUMN, table.columns)}")
        prefix = prefix_of(path.parent, source)
        names = [name.removeprefix(prefix) for name in files.photos if name.startswith(prefix)]
        label = _LABEL_COLUMN if _LABEL_COLUMN in table.columns else None
        rows = table_photos.read_rows(table, PhotoFinder(path.parent, names), _PATH_COLUMN, label)
        for photo in rows.photos(_PATH_COLUMN, label):
            photo = replace(photo, name=prefix + photo.name)
            if photo.name in read:
                raise UserError(
                    f"{path}: names {photo.name!r}, as {read[photo.name]} does; remove one of the two"
                )
            read[photo.name] = path
            yield photo


def _by_folders(files: Listing) -> list[SourcePhoto]:
    return [SourcePhoto(name) for name in files.photos if _split(name)]


def _with_labels_of_folders(photos: Sequence[SourcePhoto]) -> list[SourcePhoto]:
    """The photos with the name of the first folder that is not a split's; without labels if all share one."""
    labels = [_folder_label(photo.name) for photo in photos]
    if len({*labels}) < 2:
        return [*photos]
    return [replace(photo, label=label) for photo, label in zip(photos, labels, strict=True)]


def _folder_label(name: str) -> str | None:
    folders = name.split("/")[:-1]
    if folders and folders[0].casefold() == _TOP_FOLDER:
        folders = folders[1:]
    if folders and folders[0].casefold() in _TRAIN | _TEST:
        folders = folders[1:]
    return normal_label(folders[0]) if folders else None


LAYOUT = HuggingFaceImageFolder()
