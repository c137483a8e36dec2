"""Edited copies of gallery photos as queries, each with its original as the one right answer.

Which photos are edited, and how, follows from hashes of their names. An edit that exists stays as it is,
whatever photos are added to the gallery.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from lineup import machine
from lineup.errors import UserError, printable
from lineup.layouts import edit_kinds, pixel_edits, tables
from lineup.memory_budget import MemoryBudget
from lineup.photos import decoding, raw_folder
from lineup.photos.decoding import BadImage
from lineup.photos.image_cache import read_file
from lineup.storage import files

ATTRIBUTE = "edit"
_GALLERY = "test/gallery"
_MEMORY_SHARE = 0.5
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
        removed: the paths of earlier edits that are no longer there: their photos are gone, or changed, or
            fewer edits were asked for.
        unreadable: photo -> why it was passed over, as the end of a sentence.
        without_effect: how many photos were passed over for a kind of edit that changes none of their pixels.
    """

    edits: list[Edit] = field(default_factory=list)
    existing: int = 0
    removed: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)
    without_effect: int = 0

    def summary(self) -> Iterator[str]:
        """What the user should know, a line each."""
        counts = Counter(edit.kind for edit in self.edits)
        kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in edit_kinds.NAMES)
        existed = f"; {self.existing:,} of them were there already" if self.existing else ""
        yield f"  edits    {len(self.edits):>7,} queries: {kinds}{existed}"
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
            [(edit.path, labels.get(edit.original) or _name(edit.original)) for edit in made.edits],
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


class _Result(NamedTuple):
    """pixels_id: of the original; None where there is no edit. problem: why the photo can't be edited."""

    original: str
    pixels_id: str | None = None
    existed: bool = False
    problem: str = ""


@dataclass(frozen=True)
class _Maker:
    """Makes edits, in several threads. root: data/raw."""

    root: Path
    budget: MemoryBudget

    def make(self, kind: str, original: str) -> _Result:
        """Makes an edit, unless it exists and its original has not changed since."""
        try:
            data = read_file(self.root / original)
            image_id = hashlib.sha256(data).hexdigest()
            if pixels_id := self._existing(kind, original, image_id):
                return _Result(original, pixels_id, existed=True)
            with self.budget.taking(decoding.working_memory(data)):
                return self._edit(kind, original, data, image_id)
        except BadImage as error:
            return _Result(original, problem=str(error))

    def _existing(self, kind: str, original: str, image_id: str) -> str | None:
        """The photo's pixels_id if an edit of this very photo exists."""
        try:
            comment = pixel_edits.comment((self.root / edit_path(kind, original)).read_bytes()).split(" ")
        except OSError:
            return None
        return comment[3] if len(comment) == 4 and comment[:3] == ["lineup", kind, image_id] else None

    def _edit(self, kind: str, original: str, data: bytes, image_id: str) -> _Result:
        rgb = decoding.decode(data)
        if max(rgb.size) > decoding.MAX_ASPECT_RATIO * min(rgb.size):
            raise BadImage(f"has {rgb.width:,} x {rgb.height:,} pixels, too narrow to be used; crop it")
        pixels_id = decoding.pixels_id(rgb)
        edited = pixel_edits.EDITS[kind](rgb, Random(_hash(kind, original)))
        comment = f"lineup {kind} {image_id} {pixels_id}"
        encoded = pixel_edits.encode(kind, edited, pixel_edits.extension(kind, original), comment)
        if decoding.pixels_id(decoding.decode(encoded)) == pixels_id:
            return _Result(original)
        target = self.root / edit_path(kind, original)
        files.replace_atomically(target, lambda temporary: temporary.write_bytes(encoded))
        return _Result(original, pixels_id)


def make(root: Path, queries: int) -> Edits:
    """Makes edited copies of a sample of the gallery, as many of each kind as of any other.

    Args:
        root: data/raw. The edits lie in edit_kinds.FOLDER, as <kind>/<name below test/gallery>.
        queries: how many to make. There are fewer where the gallery is too small.
    """
    gallery = sorted(raw_folder.photos(root, _GALLERY))
    budget = MemoryBudget(
        multiprocessing.get_context("spawn"), int(machine.available_memory_bytes() * _MEMORY_SHARE)
    )
    maker = _Maker(root, budget)
    earlier = raw_folder.photos(root, edit_kinds.FOLDER)
    made = Edits()
    with ThreadPoolExecutor(machine.threads()) as pool:
        for number, kind in enumerate(edit_kinds.NAMES):
            count = queries // len(edit_kinds.NAMES) + (number < queries % len(edit_kinds.NAMES))
            _make_kind(order(kind, gallery, earlier), kind, count, maker, pool, made)
    made.removed = (earlier | raw_folder.photos(root, edit_kinds.FOLDER)) - {edit.path for edit in made.edits}
    for path in made.removed:
        (root / path).unlink()
    return made


def _make_kind(
    candidates: Iterable[str], kind: str, count: int, maker: _Maker, pool: ThreadPoolExecutor, made: Edits
) -> None:
    """Adds `count` edits of a kind to `made`."""
    candidates = iter(candidates)
    pixels: set[str] = set()
    originals: set[str] = set()
    while len(originals) < count:
        readable = (path for path in candidates if path not in made.unreadable)
        if not (batch := list(islice(readable, count - len(originals)))):
            break
        for result in pool.map(partial(maker.make, kind), batch):
            if result.problem:
                made.unreadable[result.original] = result.problem
            elif result.pixels_id is None:
                made.without_effect += 1
            elif result.pixels_id not in pixels:  # Else it is an exact copy of a photo that has this edit.
                pixels.add(result.pixels_id)
                originals.add(result.original)
                made.existing += result.existed
    made.edits += [Edit(kind, original, edit_path(kind, original)) for original in sorted(originals)]


def order(kind: str, gallery: Iterable[str], earlier: Collection[str] = ()) -> list[str]:
    """The gallery's photos in the order in which they are taken for a kind of edit.

    Photos that have the edit already come first. Then come those whose path gives them this kind: where there
    are enough of them, no photo is edited twice. Hashes of kind and path order the rest.

    Args:
        gallery: paths below data/raw.
        earlier: paths of earlier edits below data/raw.
    """
    number = edit_kinds.NAMES.index(kind)

    def rank(path: str) -> tuple[bool, bool, int]:
        other_kind = _hash("kind", photos[path]) % len(edit_kinds.NAMES) != number
        return path not in earlier, other_kind, _hash(kind, photos[path])

    photos = {edit_path(kind, original): original for original in sorted(gallery)}
    return [photos[path] for path in sorted(photos, key=rank)]


def edit_path(kind: str, original: str) -> str:
    """The path of a photo's edit below data/raw; it has the photo's name, with a further ending if needed."""
    name = _name(original)
    suffix = pixel_edits.extension(kind, name)
    fits = name.lower().endswith((".jpg", ".jpeg") if suffix == ".jpg" else suffix)
    return f"{edit_kinds.FOLDER}/{kind}/{name}" + ("" if fits else suffix)


def _hash(purpose: str, path: str) -> int:
    """A number that depends on a gallery photo's name alone, in whichever Unicode form the disk has it."""
    name = unicodedata.normalize("NFC", _name(path))
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest())


def _name(path: str) -> str:
    return path.removeprefix(f"{_GALLERY}/")
