"""What Market-1501 and MSMT17 share: photos of people, each with an identity and the camera that took it.

The rule of both: a gallery photo of the query's person is relevant if another camera took it, and junk if the
same camera did. Labels decide nothing where qrels.csv has judgements, so the relevant pairs are written there
beside the junk.
Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015, section 3.2, and its
    evaluation code in MATLAB; `eval_market1501` of torchreid computes the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineup.errors import UserError
from lineup.layouts.layout import Judgement, Role, Source, SourcePhoto
from lineup.layouts.listing import Listing
from lineup.layouts.source_files import counted, folder_with, prefix_of, require, require_folder

_FOLDERS: dict[str, Role] = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
_MARKS = ("bounding_box_train", "bounding_box_test")
_FILE_NAME = re.compile(r"(-?\d+)_c(\d+)")
_JUNK = "-1"


@dataclass(frozen=True, slots=True)
class Pedestrian:
    """A photo of a person.

    Args:
        name: path below the source.
        identity: None for a distractor, a person who is no query's.
        camera: as the data set numbers it.
    """

    name: str
    identity: str | None
    camera: str
    role: Role


def market_folder(source: Path) -> Path | None:
    """The folder with bounding_box_train/ or bounding_box_test/: the source, or the only one in it."""
    return folder_with(source, *_MARKS)


def require_market_folder(source: Path, title: str) -> Path:
    """The same. Raises UserError if there is none."""
    return require_folder(market_folder(source), source, title, *_MARKS)


def is_msmt17(folder: Path) -> bool:
    """Whether a folder with Market-1501's names holds MSMT17: its path ends so, as in msmt17/MSMT17_V1."""
    return any("msmt" in part.casefold() for part in folder.absolute().parts[-2:])


def read_market_folders(
    source: Path, root: Path, files: Listing, title: str
) -> tuple[list[Pedestrian], list[str]]:
    """The people of the three folders, and the names of the junk photos, which are left out.

    A junk photo (-1) is removed from every ranking before ranks are counted, which is the same as a gallery
    without it.

    Args:
        root: the folder that holds the three.
        files: all below the source.
        title: the data set's name, for errors.
    Raises:
        UserError: a folder of the test does not exist, or a file is not named as the data set names photos.
    """
    pedestrians, junk = [], []
    for folder, role in _FOLDERS.items():
        if role == "train" and not (root / folder).exists():
            continue
        prefix = prefix_of(require(root / folder, title), source)
        for name in (name for name in files.photos if name.startswith(prefix)):
            match = _FILE_NAME.match(name.rpartition("/")[2])
            if not match:
                raise UserError(
                    f"{source / name}: is not named as in {title}, where a photo's name begins with its "
                    "person and camera, as in 0002_c1s1_000451_03.jpg; rename it, or move it away"
                )
            if match[1] == _JUNK:
                junk.append(name)
            else:
                pedestrians.append(Pedestrian(name, match[1], match[2], role))
    return pedestrians, junk


def make_source(
    title: str, pedestrians: Sequence[Pedestrian], notes: Iterable[str], skipped: Sequence[str]
) -> Source:
    """The photos with their roles, and the judgements of every query.

    Args:
        notes: further parts of the summary.
        skipped: see Source.
    """
    photos = [
        SourcePhoto(person.name, person.identity, (person.role,), attributes={"camera_id": person.camera})
        for person in pedestrians
    ]
    trained = {person.identity for person in pedestrians if person.role == "train"}
    counts = {
        role: sum(person.role == role for person in pedestrians) for role in ("train", "query", "gallery")
    }
    summary = "; ".join(
        [
            f"{counted(counts['train'], 'training photo')} of {counted(len(trained), 'person', 'people')}",
            f"{counted(counts['query'], 'query', 'queries')} and "
            f"{counted(counts['gallery'], 'gallery photo')}",
            "a photo of the query's person from the query's camera is junk",
            *notes,
        ]
    )
    return Source(photos, {"qrels.csv": list(_judgements(pedestrians))}, f"{title}: {summary}", skipped)


def _judgements(pedestrians: Sequence[Pedestrian]) -> Iterator[Judgement]:
    gallery: defaultdict[str | None, list[Pedestrian]] = defaultdict(list)
    for person in pedestrians:
        if person.role == "gallery":
            gallery[person.identity].append(person)
    for query in pedestrians:
        if query.role == "query" and query.identity is not None:
            for photo in gallery.get(query.identity, []):
                yield Judgement(query.name, photo.name, -1 if photo.camera == query.camera else 1)
