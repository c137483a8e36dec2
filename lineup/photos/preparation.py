"""What preprocess prepares: data/raw, or a second test set, and the files that it writes of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lineup import paths
from lineup.errors import UserError, suggest
from lineup.paths import Part
from lineup.photos import raw_folder


class PartFiles(NamedTuple):
    """Where a part's manifest is written, and the folder of its prepared images."""

    manifest: Path
    images: Path


class Preparation(NamedTuple):
    """A folder of photos, and the files that are written of it.

    parts: of a second test set the test alone, because it has no training photos.
    attributes, leaks: None of a second test set, for which nothing reads them.
    """

    root: Path
    parts: dict[Part, PartFiles]
    qrels: Path
    problems: Path
    attributes: Path | None
    leaks: Path | None

    @property
    def with_training(self) -> bool:
        """Whether the folder's training photos are prepared, too."""
        return "train" in self.parts


def of_raw() -> Preparation:
    """data/raw -> data/prepared."""
    parts: dict[Part, PartFiles] = {
        "train": PartFiles(paths.manifest("train"), paths.images("train")),
        "test": PartFiles(paths.manifest("test"), paths.images("test")),
    }
    return Preparation(paths.RAW, parts, paths.QRELS, paths.PROBLEMS, paths.ATTRIBUTES, paths.LEAKS)


def of_transfer_set(name: str, sets: Mapping[str, str]) -> Preparation:
    """A second test set -> data/prepared_transfer. A folder train/ in it is left alone.

    Args:
        sets: transfer.sets.
    Raises:
        UserError: it lacks the set, or the set's folder does not exist.
    """
    if name not in sets:
        fix = suggest(name, sets) if sets else "; there are none"
        raise UserError(f"{paths.PARAMS}: transfer.sets.{name} is unknown{fix}")
    root = Path(sets[name])
    raw_folder.check_exists(root, name)
    parts: dict[Part, PartFiles] = {
        "test": PartFiles(paths.transfer_manifest(name), paths.transfer_images(name))
    }
    return Preparation(root, parts, paths.transfer_qrels(name), paths.transfer_problems(name), None, None)
