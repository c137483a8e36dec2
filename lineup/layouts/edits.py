"""Edited copies of gallery photos as queries, each with its original as the one right answer.

Which photos are edited, and how, follows from hashes of their names. An edit that exists stays as it is,
whatever photos are added to the gallery.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from lineup import machine
from lineup.errors import printable
from lineup.layouts import edit_kinds, pixel_edits
from lineup.layouts.layout import Judgement
from lineup.memory_budget import MemoryBudget
from lineup.photos import decoding
from lineup.photos.decoding import BadImage
from lineup.photos.image_cache import read_file
from lineup.storage import files

ATTRIBUTE = "edit"
FOLDER = "test/query/edits"  # below data/raw
_GALLERY = "test/gallery"
_MEMORY_SHARE = 0.5
_MAX_SHOWN_PHOTOS = 3
_MAX_NAME_CHARACTERS = 100

# Copies a file without copying its bytes, where the file system allows it.
Copy = Callable[[Path, Path], object]


class Edit(NamedTuple):
    """A query. original: its name below test/gallery; query: its path below data/raw."""

    kind: str
    original: str
    query: str


@dataclass
class Edits:
    """What `make` made.

    Attributes:
        edits: in the order of the kinds, and then of the originals' names.
        existing: how many of them were there already.
        unreadable: photo -> why it was passed over, as the end of a sentence.
        without_effect: how many photos were passed over for a kind of edit that changes none of their pixels.
    """

    edits: list[Edit] = field(default_factory=list)
    existing: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    without_effect: int = 0

    def judgements(self) -> list[Judgement]:
        """The lines of qrels.csv, with paths below data/raw."""
        return [Judgement(edit.query, f"{_GALLERY}/{edit.original}", 1) for edit in self.edits]

    def attributes(self) -> dict[str, dict[str, str]]:
        """The lines of attributes.csv: path below data/raw -> column -> value."""
        return {edit.query: {ATTRIBUTE: edit.kind} for edit in self.edits}

    def labels(self) -> dict[str, str]:
        """The lines of labels.csv: path below data/raw -> label.

        The label is the original's name: edits of one photo are not independent of each other, and intervals
        resample queries by label.
        """
        return {edit.query: edit.original for edit in self.edits}

    def summary(self) -> Iterator[str]:
        """What the user should know, a line each."""
        counts = Counter(edit.kind for edit in self.edits)
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in edit_kinds.NAMES)
        existed = f"; {self.existing:,} of them existed already" if self.existing else ""
        yield f"{len(self.edits):,} edited copies of gallery photos are the queries ({kinds}){existed}"
        if self.unreadable:
            shown = "; ".join(
                f"{printable(name, _MAX_NAME_CHARACTERS)} {printable(reason)}"
                for name, reason in islice(sorted(self.unreadable.items()), _MAX_SHOWN_PHOTOS)
            )
            more = len(self.unreadable) - _MAX_SHOWN_PHOTOS
            yield f"not edited: {len(self.unreadable):,} photos that can't be used: {shown}" + (
                f"; and {more:,} more" if more > 0 else ""
            )


class _Result(NamedTuple):
    """pixels_id: of the original; None where there is no edit. problem: why the photo can't be edited."""

    name: str
    pixels_id: str | None = None
    existed: bool = False
    problem: str = ""


@dataclass(frozen=True)
class _Maker:
    """Makes edits, in several threads.

    Attributes:
        gallery: name below test/gallery -> its file.
        folder, former: where edits are written, and where earlier ones are, by kind.
        copy: copies an earlier edit.
    """

    gallery: Mapping[str, Path]
    folder: Path
    former: Path
    copy: Copy
    budget: MemoryBudget

    def make(self, kind: str, name: str) -> _Result:
        """Makes an edit, or copies the one that exists if its original has not changed since."""
        try:
            data = read_file(self.gallery[name])
            image_id = hashlib.sha256(data).hexdigest()
            if pixels_id := self._existing(kind, name, image_id):
                return _Result(name, pixels_id, existed=True)
            with self.budget.taking(decoding.working_memory(data)):
                return self._edit(kind, name, data, image_id)
        except BadImage as error:
            return _Result(name, problem=str(error))

    def _existing(self, kind: str, name: str, image_id: str) -> str | None:
        """Copies an earlier edit of this very photo. Returns the photo's pixels_id, None without one."""
        file = Path(kind, file_name(kind, name))
        try:
            comment = pixel_edits.comment((self.former / file).read_bytes()).split(" ")
        except OSError:
            return None
        if len(comment) != 4 or comment[:3] != ["lineup", kind, image_id]:
            return None
        files.replace_atomically(self.folder / file, partial(self.copy, self.former / file))
        return comment[3]

    def _edit(self, kind: str, name: str, data: bytes, image_id: str) -> _Result:
        rgb = decoding.decode(data)
        if max(rgb.size) > decoding.MAX_ASPECT_RATIO * min(rgb.size):
            raise BadImage(f"has {rgb.width:,} x {rgb.height:,} pixels, too narrow to be used; crop it")
        pixels_id = decoding.pixels_id(rgb)
        edited = pixel_edits.EDITS[kind](rgb, Random(_hash(kind, name)))
        comment = f"lineup {kind} {image_id} {pixels_id}"
        encoded = pixel_edits.encode(kind, edited, pixel_edits.extension(kind, name), comment)
        if decoding.pixels_id(decoding.decode(encoded)) == pixels_id:
            return _Result(name)
        target = self.folder / kind / file_name(kind, name)
        files.replace_atomically(target, lambda temporary: temporary.write_bytes(encoded))
        return _Result(name, pixels_id)


def make(gallery: Mapping[str, Path], folder: Path, former: Path, queries: int, copy: Copy) -> Edits:
    """Makes edited copies of a sample of the gallery, as many of each kind as of any other.

    Args:
        gallery: name below test/gallery -> its file.
        folder: where to write them, as <kind>/<name>.
        former: where earlier edits are, in another folder, which need not exist.
        queries: how many to make. There are fewer where the gallery is too small.
    """
    budget = MemoryBudget(
        multiprocessing.get_context("spawn"), int(machine.available_memory_bytes() * _MEMORY_SHARE)
    )
    maker = _Maker(gallery, folder, former, copy, budget)
    made = Edits()
    with ThreadPoolExecutor(machine.threads()) as pool:
        for number, kind in enumerate(edit_kinds.NAMES):
            count = queries // len(edit_kinds.NAMES) + (number < queries % len(edit_kinds.NAMES))
            _make_kind(kind, count, maker, pool, made)
    return made


def _make_kind(kind: str, count: int, maker: _Maker, pool: ThreadPoolExecutor, made: Edits) -> None:
    """Adds `count` edits of a kind to `made`."""
    earlier = {file.relative_to(maker.former / kind).as_posix() for file in (maker.former / kind).rglob("*")}
    candidates = iter(order(kind, maker.gallery, earlier))
    pixels: set[str] = set()
    names: set[str] = set()
    while len(names) < count:
        readable = (name for name in candidates if name not in made.unreadable)
        if not (batch := list(islice(readable, count - len(names)))):
            break
        for result in pool.map(partial(maker.make, kind), batch):
            if result.problem:
                made.unreadable[result.name] = result.problem
            elif result.pixels_id is None:
                made.without_effect += 1
            elif result.pixels_id in pixels:  # An exact copy of a photo that has this edit already.
                (maker.folder / kind / file_name(kind, result.name)).unlink()
            else:
                pixels.add(result.pixels_id)
                names.add(result.name)
                made.existing += result.existed
    made.edits += [Edit(kind, name, f"{FOLDER}/{kind}/{file_name(kind, name)}") for name in sorted(names)]


def order(kind: str, gallery: Iterable[str], earlier: Collection[str] = ()) -> list[str]:
    """The gallery's photos in the order in which they are taken for a kind of edit.

    Photos that have the edit already come first. Then come those whose name gives them this kind: where there
    are enough of them, no photo is edited twice. Hashes of kind and name order the rest.

    Args:
        earlier: what `file_name` returns for the photos that have the edit.
    """
    number = edit_kinds.NAMES.index(kind)

    def rank(file: str) -> tuple[bool, bool, int]:
        other_kind = _hash("kind", photos[file]) % len(edit_kinds.NAMES) != number
        return file not in earlier, other_kind, _hash(kind, photos[file])

    photos = {file_name(kind, name): name for name in sorted(gallery)}
    return [photos[file] for file in sorted(photos, key=rank)]


def file_name(kind: str, name: str) -> str:
    """The path of an edit below the folder of its kind.

    Args:
        name: of the original, below test/gallery.
    """
    suffix = pixel_edits.extension(kind, name)
    same = name.lower().endswith((".jpg", ".jpeg") if suffix == ".jpg" else suffix)
    return name if same else name + suffix


def _hash(purpose: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode(errors="surrogateescape")).digest())
