"""The file of an edit: its path, the numbers that decide it, and its making, in several threads."""

from __future__ import annotations

import hashlib
import multiprocessing
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, NoReturn

from tqdm import tqdm

from lineup import machine
from lineup.layouts import edit_kinds, pixel_edits
from lineup.memory_budget import MemoryBudget
from lineup.photos import decoding, image_opening, image_preparation, pixel_identity
from lineup.photos.image_cache import read_file
from lineup.photos.image_opening import BadImage
from lineup.storage import files

GALLERY = "test/gallery"  # below data/raw
_MEMORY_SHARE = 0.5
# The first word of the comment in an edit's file; the kind and the original's image_id and pixels_id follow.
_MADE_BY = "lineup"


class Result(NamedTuple):
    """pixels_id: of the original; None where there is no edit. problem: why the photo can't be edited."""

    original: str
    pixels_id: str | None = None
    existed: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Maker:
    """Makes edits of photos of data/raw, which is `root`."""

    root: Path
    budget: MemoryBudget
    pool: ThreadPoolExecutor
    bar: tqdm[NoReturn]

    @classmethod
    @contextmanager
    def start(cls, root: Path, count: int) -> Iterator[Maker]:
        """With a thread for each core, and a progress bar for so many edits."""
        available = int(machine.available_memory_bytes() * _MEMORY_SHARE)
        budget = MemoryBudget(multiprocessing.get_context("spawn"), available)
        bar = tqdm(total=count, desc="edits", unit="photo", leave=False, disable=None, delay=1)
        with ThreadPoolExecutor(machine.threads()) as pool, bar:
            yield cls(root, budget, pool, bar)

    def make(self, kind: str, originals: Iterable[str]) -> Iterator[Result]:
        """Makes an edit of each photo, unless it exists and the photo has not changed since."""
        for result in self.pool.map(partial(self._make, kind), originals):
            self.bar.update()
            yield result

    def _make(self, kind: str, original: str) -> Result:
        try:
            data = read_file(self.root / original)
            image_id = hashlib.sha256(data).hexdigest()
            made_from = _made_from(self.root / path(kind, original))
            if made_from[:2] == [kind, image_id]:
                return Result(original, made_from[2], existed=True)
            with self.budget.taking(image_opening.working_memory(data)):
                return self._edit(kind, original, data, image_id)
        except BadImage as error:
            return Result(original, problem=str(error))

    def _edit(self, kind: str, original: str, data: bytes, image_id: str) -> Result:
        rgb = decoding.decode(data)
        if max(rgb.size) > image_preparation.MAX_ASPECT_RATIO * min(rgb.size):
            raise BadImage(f"has {rgb.width:,} x {rgb.height:,} pixels, too narrow to be used; crop it")
        pixels_id = pixel_identity.pixels_id(rgb)
        edited = pixel_edits.EDITS[kind](rgb, Random(number(kind, original)))
        comment = f"{_MADE_BY} {kind} {image_id} {pixels_id}"
        encoded = pixel_edits.encode(kind, edited, pixel_edits.extension(kind, original), comment)
        if pixel_identity.pixels_id(decoding.decode(encoded)) == pixels_id:
            return Result(original)
        target = self.root / path(kind, original)
        files.replace_atomically(target, lambda temporary: temporary.write_bytes(encoded))
        return Result(original, pixels_id)


def is_edit(file: Path) -> bool:
    """Whether Lineup made this file; others may lie beside it."""
    return bool(_made_from(file))


def _made_from(file: Path) -> list[str]:
    """The kind of an edit, and the image_id and pixels_id of its original; empty if it is something else."""
    try:
        made_by, *made_from = pixel_edits.comment(file.read_bytes()).split(" ")
    except OSError:
        return []
    return made_from if made_by == _MADE_BY and len(made_from) == 3 else []


def path(kind: str, original: str) -> str:
    """The path of a photo's edit below data/raw; it has the photo's name, with a further ending if needed."""
    suffix = pixel_edits.extension(kind, original)
    fits = original.lower().endswith((".jpg", ".jpeg") if suffix == ".jpg" else suffix)
    return f"{edit_kinds.FOLDER}/{kind}/{name(original)}" + ("" if fits else suffix)


def number(purpose: str, original: str) -> int:
    """A number that depends on a gallery photo's name alone, in whichever Unicode form the disk has it."""
    normal = unicodedata.normalize("NFC", name(original))
    return int.from_bytes(hashlib.sha256(f"{purpose}/{normal}".encode()).digest())


def name(original: str) -> str:
    """The name of a gallery photo below test/gallery."""
    return original.removeprefix(f"{GALLERY}/")
