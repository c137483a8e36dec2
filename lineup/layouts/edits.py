"""Edited copies of gallery photos as queries, each with its original as the one right answer.

Which photos are edited, and how, follows from hashes of their names. An edit that exists stays as it is,
whatever photos are added to the gallery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError, printable
from lineup.layouts import edit_files, edit_kinds, tables
from lineup.layouts.edit_files import Maker
from lineup.photos import raw_folder
from lineup.storage import files

ATTRIBUTE = "edit"
_MAX_SHOWN_PHOTOS = 3
_MAX_NAME_CHARACTERS = 100


class Edit(NamedTuple):
    """A query. original, path: the paths of the photo and of its edited copy below data/raw."""

    kind: str
    original: str
    path: str


@dataclass
class Edits:
    """What `make` made.

    Attributes:
        edits: in the order of the kinds, and then of the originals' paths.
        existing: how many of them were there already.
        removed: the paths of earlier edits that are no longer there, as their photos are gone.
        unreadable: photo -> why it was passed over, as the end of a sentence.
        without_effect: how many photos were passed over for a kind of edit that changes none of their pixels.
        gallery: how many photos could have been edited.
    """

    edits: list[Edit] = field(default_factory=list)
    existing: int = 0
    removed: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)
    without_effect: int = 0
    gallery: int = 0

    def summary(self) -> Iterator[str]:
        """What the user should know, a line each."""
        counts = Counter(edit.kind for edit in self.edits)
        kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in edit_kinds.NAMES)
        existed = f"; {self.existing:,} of them were there already" if self.existing else ""
        yield f"  edits    {len(self.edits):>7,} queries: {kinds}{existed}"
        originals = len({edit.original for edit in self.edits})
        if self.existing and originals < min(len(self.edits), self.gallery) // 2:
            yield (
                f"the edits are of {originals:,} photos alone, since those that are there already stay; "
                "to choose anew, move data/raw away"
            )
        if self.unreadable:
            yield f"not edited, as they can't be used: {self.passed_over()}"

    def passed_over(self) -> str:
        """How many photos can't be used, and the first ones with their reasons."""
        shown = "; ".join(
            f"{printable(path, _MAX_NAME_CHARACTERS)} {printable(reason)}"
            for path, reason in sorted(self.unreadable.items())[:_MAX_SHOWN_PHOTOS]
        )
        more = len(self.unreadable) - _MAX_SHOWN_PHOTOS
        count = len(self.unreadable)
        return f"{count:,} photo{'s' * (count != 1)}: {shown}" + (f"; and {more:,} more" if more > 0 else "")


def add(root: Path, queries: int, labels: Mapping[str, str]) -> Edits:
    """Makes edits of the photos of data/raw, and enters them into its tables.

    qrels.csv says which photo is right, and attributes.csv which kind of edit it is. labels.csv gives each
    edit its original's label, or without one its name, instead of the folder's name: edits of one photo are
    not independent, and intervals resample queries by label.

    Args:
        root: data/raw, with the whole gallery.
        queries: how many edits to make.
        labels: of gallery photos, by path below data/raw; empty where a photo has none.
    Raises:
        UserError: no photo can be edited, or a table can't be read.
    """
    made = make(root, queries)
    if not made.edits:
        reason = made.passed_over() if made.unreadable else "the gallery holds no photos"
        raise UserError(f"no photo can be edited: {reason}")
    contents: dict[str, tuple[Sequence[str], list[Sequence[str]]]] = {
        "qrels.csv": (
            ("query", "gallery", "relevance"),
            [(edit.path, edit.original, "1") for edit in made.edits],
        ),
        "labels.csv": (
            ("path", "label"),
            [(edit.path, labels.get(edit.original) or edit_files.name(edit.original)) for edit in made.edits],
        ),
        "attributes.csv": (("path", ATTRIBUTE), [(edit.path, edit.kind) for edit in made.edits]),
    }
    for name, (columns, rows) in contents.items():
        keys = 2 if name == "qrels.csv" else 1
        text = tables.merged(root / name, columns, rows, key_columns=keys, replace=True, removed=made.removed)
        if text is not None:
            files.replace_atomically(root / name, partial(_write, text))
    return made


def _write(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8", newline="")


def make(root: Path, queries: int) -> Edits:
    """Makes edited copies of a sample of the gallery, as many of each kind as of any other.

    Args:
        root: data/raw. The edits lie in edit_kinds.FOLDER, as <kind>/<name below test/gallery>.
        queries: how many to make. There are fewer where the gallery is too small, and more where there were
            more already.
    """
    gallery, earlier = sorted(raw_folder.photos(root, edit_files.GALLERY)), _present(root)
    share, remainder = divmod(queries, len(edit_kinds.NAMES))
    made = Edits(gallery=len(gallery))
    with Maker.start(root, queries) as maker:
        for number, kind in enumerate(edit_kinds.NAMES):
            present = sum(edit_files.path(kind, original) in earlier for original in gallery)
            count = max(share + (number < remainder), present)
            _make_kind(order(kind, gallery, earlier), kind, count, maker, made)
    made.removed = (earlier | _present(root)) - {edit.path for edit in made.edits}
    for path in made.removed:
        (root / path).unlink(missing_ok=True)
    return made


def exist(root: Path) -> bool:
    """Whether data/raw has edits."""
    return any((root / edit_kinds.FOLDER / kind).is_dir() for kind in edit_kinds.NAMES)


def _present(root: Path) -> set[str]:
    """The edits that data/raw has."""
    inside = raw_folder.photos(root, edit_kinds.FOLDER)
    return {path for path in inside if edit_files.is_edit(root / path)}


def _make_kind(candidates: Iterable[str], kind: str, count: int, maker: Maker, made: Edits) -> None:
    """Adds `count` edits of a kind to `made`."""
    candidates = iter(candidates)
    pixels: set[str] = set()
    originals: set[str] = set()
    while len(originals) < count:
        readable = (original for original in candidates if original not in made.unreadable)
        if not (batch := list(islice(readable, count - len(originals)))):
            break
        for result in maker.make(kind, batch):
            if result.problem:
                made.unreadable[result.original] = result.problem
            elif result.pixels_id is None:
                made.without_effect += 1
            elif result.pixels_id not in pixels:  # Else it is an exact copy of a photo that has this edit.
                pixels.add(result.pixels_id)
                originals.add(result.original)
                made.existing += result.existed
    made.edits += [Edit(kind, original, edit_files.path(kind, original)) for original in sorted(originals)]


def order(kind: str, gallery: Iterable[str], earlier: Collection[str] = ()) -> list[str]:
    """The gallery's photos in the order in which they are taken for a kind of edit.

    Photos that have the edit already come first. Then come those whose name gives them this kind: where there
    are enough of them, no photo is edited twice. Hashes of kind and name order the rest.

    Args:
        gallery: paths below data/raw.
        earlier: paths of earlier edits below data/raw.
    """
    index = edit_kinds.NAMES.index(kind)

    def rank(path: str) -> tuple[bool, bool, int]:
        other_kind = edit_files.number("kind", originals[path]) % len(edit_kinds.NAMES) != index
        return path not in earlier, other_kind, edit_files.number(kind, originals[path])

    originals = {edit_files.path(kind, original): original for original in sorted(gallery)}
    return [originals[path] for path in sorted(originals, key=rank)]
