"""MSMT17 in its own form, with lists, and in the form of Market-1501's folders."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from lineup.errors import UserError
from lineup.layouts import listing, pedestrians
from lineup.layouts.layout import Role, Source
from lineup.layouts.list_files import read_rows
from lineup.layouts.pedestrians import Pedestrian
from lineup.layouts.source_files import (
    counted,
    folder_with,
    prefix_of,
    require,
    require_once,
    require_photos,
    unused,
)

_TITLE = "MSMT17"
_LISTS: dict[str, Role] = {
    "list_train.txt": "train",
    "list_query.txt": "query",
    "list_gallery.txt": "gallery",
}
# Version 2, in which faces are blurred, has other folder names.
_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_EXAMPLE = "0000/0000_000_01_0303morning_0008_0.jpg 0"


class MSMT17:
    """list_train.txt, list_query.txt and list_gallery.txt beside train/ and test/, as its authors pack it.

    A line is "0000/0000_000_01_0303morning_0008_0.jpg 0": a photo and its person. The third part of a file's
    name is its camera. Version 2 has mask_train_v2/ and mask_test_v2/. Copies with Market-1501's folders and
    file names are read if their path ends with a name that has "msmt" in it.
    The people of training and test are numbered from 0 each, so that those of the test get labels such as
    test_0000. Other than in Market-1501, 0000 is a person. list_val.txt, further photos of the training's
    people, is left out, as in published results.
    Source: Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018. The
        readers of torchreid (data/datasets/image/msmt17.py) and fast-reid read it like this.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        if _folder_with_lists(source) is not None:
            return True
        folder = pedestrians.market_folder(source)
        return folder is not None and pedestrians.is_msmt17(folder)

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        root, files, junk, lists = _folder_with_lists(source), listing.read(source), [], []
        if root is not None:
            lists, existing = [root / name for name in _LISTS], set(files.photos)
            people = [person for path in lists for person in _read_list(source, path, existing)]
            require_once(people, root)
        else:
            root = pedestrians.require_market_folder(source, _TITLE)
            people, junk = pedestrians.read_market_folders(source, root, files, _TITLE)
        people = [
            person if person.role == "train" else replace(person, identity=f"test_{person.identity}")
            for person in people
        ]
        notes = [f"{counted(len(junk), 'junk photo')} (-1) left out"] if junk else []
        return pedestrians.make_source(_TITLE, people, notes, unused(files, source, people, *lists))


def _folder_with_lists(source: Path) -> Path | None:
    folder = folder_with(source, *_LISTS)
    if folder is None or not any((folder / name).is_dir() for names in _FOLDERS.values() for name in names):
        return None
    return folder


def _read_list(source: Path, path: Path, existing: Collection[str]) -> Iterator[Pedestrian]:
    """The photos of one of the lists; none if there is nothing for training."""
    role = _LISTS[path.name]
    names = _FOLDERS["train" if role == "train" else "test"]
    folder = next((path.parent / name for name in names if (path.parent / name).is_dir()), None)
    if role == "train" and folder is None and not path.exists():
        return
    prefix = prefix_of(require(folder or path.parent / names[0], _TITLE), source)
    rows = []
    for number, (photo, person) in read_rows(path, _TITLE, "photo person"):
        parts = photo.rpartition("/")[2].split("_")
        if len(parts) < 3 or not (parts[2].isdecimal() and person.isdecimal()):
            raise UserError(
                f"{path}: line {number}: must hold a photo whose name has its camera, and a person's number, "
                f"as '{_EXAMPLE}'"
            )
        rows.append(Pedestrian(prefix + photo, f"{int(person):04}", str(int(parts[2])), role))
    require_photos([row.name for row in rows], existing, path)
    yield from rows


LAYOUT = MSMT17()
