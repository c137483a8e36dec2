"""Lists the photos below a folder that a user has, without opening those whose names say what they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lineup.errors import UserError
from lineup.photos import image_headers, raw_folder

# The endings of formats that preprocess reads.
PHOTO_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    *(".heic", ".heif", ".hif"),
}
# Folders of a disk itself.
_OF_THE_DISK = {"$recycle.bin", "system volume information", "lost+found"}
_MAX_SUFFIX_CHARACTERS = 5
_SIGNATURE_BYTES = 64


@dataclass
class Listing:
    """What is below a folder; names are relative to it, sorted, with "/" between folders.

    Attributes:
        photos: files whose ending is that of a photo or, without an ending, whose first bytes are.
        others: other files, hidden photos, and links that lead nowhere; other hidden files are in neither
            list.
    """

    photos: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def read(source: Path) -> Listing:
    """Lists all files below a folder. Links to folders are followed, but not in circles.

    Raises:
        UserError: a folder can't be read.
    """
    listing = Listing()
    for name in _walk(source, "", listing, frozenset()):
        _sort_in(source, name, listing)
    listing.photos.sort()
    listing.others.sort()
    return listing


def _walk(source: Path, folder: str, listing: Listing, parents: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        status = (source / folder).stat()
        inode = (status.st_dev, status.st_ino)
        if inode in parents:
            return
        with os.scandir(source / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if not raw_folder.is_photo_name(entry.name) or entry.name.lower() in _OF_THE_DISK:
                    if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES:  # noqa: PTH122
                        listing.others.append(name)
                    continue
                if _leads_nowhere(entry):
                    listing.others.append(name)
                elif entry.is_dir():
                    yield from _walk(source, name, listing, parents | {inode})
                elif entry.is_file():
                    yield name
                else:
                    listing.others.append(name)
    except PermissionError:
        raise UserError(
            f"{source / folder}: can't be read; let this user read it, or move it out of {source}"
        ) from None


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def _sort_in(source: Path, name: str, listing: Listing) -> None:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122, 100,000 Path objects take a second
    if suffix in PHOTO_SUFFIXES:
        listing.photos.append(name)
        return
    if suffix and suffix[1:].isalnum() and len(suffix) <= _MAX_SUFFIX_CHARACTERS and not suffix[1:].isdigit():
        listing.others.append(name)
        return
    with (source / name).open("rb") as file:
        is_photo = bool(image_headers.format_of(file.read(_SIGNATURE_BYTES)))
    (listing.photos if is_photo else listing.others).append(name)
