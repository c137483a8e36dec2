"""Writes data/raw: a folder of files that cost no disk where that is safe, which appears by a rename.

A reflink shares the bytes on disk until one of both files changes. A hard link is the same file under two
names: `dvc add`, whose cache is made of hard links, takes it into its cache and makes it read-only, also
where the owner's photos are. So hard links are made only on request.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dvc_objects.fs import system
from PIL import Image
from tqdm import tqdm

from lineup.errors import UserError
from lineup.layouts.layout import SourcePhoto
from lineup.layouts.plan import Plan
from lineup.photos import decoding, image_opening
from lineup.storage import files

# The file system, or this pair of disks, can't link; or a file has as many links as it may have.
_CANNOT_LINK = {
    getattr(errno, name)
    for name in ("EPERM", "EACCES", "EXDEV", "EMLINK", "ENOSYS", "EINVAL", "ENOTTY", "ENOTSUP", "EOPNOTSUPP")
}
# A fault of the disk that is written to; shutil would name the file that is read.
_OF_THE_TARGET = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_COMPARED_BYTES = 2**20


@dataclass
class Placer:
    """Places files by the cheapest safe way.

    Attributes:
        hard_links: whether hard links are allowed.
        counts: how many files were reflinked, hard-linked, copied and cropped.
        copied_bytes: the size of the copies.
    """

    hard_links: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    copied_bytes: int = 0
    _cannot_reflink: set[int] = field(default_factory=set)

    def place(self, source: Path, target: Path) -> None:
        """Makes `target` from `source`, which is only read, with the same modification time."""
        status = source.stat()
        if self._reflink(source, target, status.st_dev):
            self.counts["reflinked"] += 1
        elif self.hard_links and _hard_link(source, target):
            self.counts["hard-linked"] += 1
            return
        else:
            copy(source, target)
            self.counts["copied"] += 1
            self.copied_bytes += status.st_size
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _reflink(self, source: Path, target: Path, device: int) -> bool:
        if device in self._cannot_reflink:
            return False
        try:
            system.reflink(source, target)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            self._cannot_reflink.add(device)
            return False
        return True

    def crop(self, source: Path, target: Path, box: tuple[float, float, float, float]) -> None:
        """Makes `target` a PNG of a part of the upright photo."""
        status = source.stat()
        cropped(source, box).save(target, "PNG")
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.counts["cropped"] += 1


def copy(source: Path, target: Path) -> None:
    """Copies the bytes of a file. An error of the target's disk names the target."""
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.errno in _OF_THE_TARGET:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise


def _hard_link(source: Path, target: Path) -> bool:
    try:
        # link() makes a second name of a symbolic link itself on some systems.
        os.link(source.resolve() if source.is_symlink() else source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        return False
    return True


def cropped(source: Path, box: tuple[float, float, float, float]) -> Image.Image:
    """A part of the upright photo; edges lie on whole pixels, inside the photo.

    Raises:
        UserError: the photo can't be decoded, or the box lies outside it.
    """
    try:
        image = decoding.decode(source.read_bytes())
    except image_opening.BadImage as error:
        raise UserError(f"{source}: {error}; it can't be cropped") from None
    left, top = (max(round(edge), 0) for edge in box[:2])
    right, bottom = min(round(box[2]), image.width), min(round(box[3]), image.height)
    if left >= right or top >= bottom:
        raise UserError(
            f"{source}: the box {', '.join(f'{edge:g}' for edge in box)} has no pixel of the photo, which is "
            f"{image.width} x {image.height} pixels"
        )
    return image.crop((left, top, right, bottom))


def changes(plan: Plan, source: Path, root: Path) -> list[str]:
    """The paths of photos that data/raw lacks, or has with other bytes."""
    return [path for path, photo in plan.photos.items() if not _is_placed(photo, source, root / path)]


def _is_placed(photo: SourcePhoto, source: Path, target: Path) -> bool:
    try:
        ours, theirs = (source / photo.name).stat(), target.stat()
    except FileNotFoundError:
        return False
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
        return True
    if photo.crop is not None:
        with Image.open(target) as image:
            return ours.st_mtime_ns == theirs.st_mtime_ns or (
                image.tobytes() == cropped(source / photo.name, photo.crop).tobytes()
            )
    if ours.st_size != theirs.st_size:
        return False
    return ours.st_mtime_ns == theirs.st_mtime_ns or _same_bytes(source / photo.name, target)


def shares_files(plan: Plan, source: Path, root: Path) -> bool:
    """Whether data/raw holds hard links to photos of the source."""

    def status(path: Path) -> tuple[int, int] | None:
        try:
            file = path.stat()
        except FileNotFoundError:
            return None
        return (file.st_dev, file.st_ino) if file.st_nlink > 1 else None

    return any(
        (inode := status(root / path)) is not None and inode == status(source / photo.name)
        for path, photo in plan.photos.items()
    )


def _same_bytes(path: Path, other: Path) -> bool:
    with path.open("rb") as one, other.open("rb") as two:
        while block := one.read(_COMPARED_BYTES):
            if block != two.read(_COMPARED_BYTES):
                return False
        return not two.read(1)


def write(
    plan: Plan,
    source: Path,
    root: Path,
    new: Iterable[str],
    placer: Placer,
    finish: Callable[[Path], object] | None = None,
) -> None:
    """Replaces data/raw by a folder with the plan's photos and tables, and everything else that it held.

    The new folder is complete before it takes the name, so that no fault leaves anything half-done.

    Args:
        new: what `changes` returned.
        finish: called with the new folder, which has all photos and tables then, but not yet its name.
    Raises:
        UserError: there is not enough space for the photos that must be copied.
        OSError: of the disk; data/raw is as it was.
    """
    new = [*new]

    def build(temporary: Path) -> None:
        temporary.mkdir()
        replaced, former = {*new, *plan.removed, *plan.text_files}, Placer()
        for name in _names(root):
            if name not in replaced:
                _take_over(root / name, _with_folder(temporary / name), former)
        _place(plan.photos, new, source, temporary, placer)
        for name, text in plan.text_files.items():
            (temporary / name).write_text(text, encoding="utf-8", newline="")
        if finish is not None:
            finish(temporary)

    files.replace_atomically(root, build)


def lay_out(pictures: Mapping[str, Path], root: Path, text_files: Mapping[str, str]) -> None:
    """Creates a folder that holds copies of files and some texts, by their paths below it."""
    placer = Placer()

    def build(temporary: Path) -> None:
        for name, picture in pictures.items():
            placer.place(picture, _with_folder(temporary / name))
        for name, text in text_files.items():
            (temporary / name).write_text(text, encoding="utf-8", newline="")

    files.replace_atomically(root, build)


def _place(
    photos: Mapping[str, SourcePhoto], new: list[str], source: Path, temporary: Path, placer: Placer
) -> None:
    for number, path in enumerate(tqdm(new, "photos", unit="photo", leave=False, disable=None, delay=1)):
        photo, target = photos[path], _with_folder(temporary / path)
        if photo.crop is not None:
            placer.crop(source / photo.name, target, photo.crop)
            continue
        placer.place(source / photo.name, target)
        if number == 0 and placer.counts["copied"]:
            _check_space((source / photos[path].name for path in new[1:]), temporary, placer.hard_links)


def _check_space(photos: Iterable[Path], temporary: Path, hard_links: bool) -> None:
    """Raises UserError now rather than after most photos are copied."""
    needed, free = sum(photo.stat().st_size for photo in photos), shutil.disk_usage(temporary).free
    if needed > free:
        links = "" if hard_links else ", or use --hard-links, which take none"
        raise UserError(
            f"the copies of the photos need {needed / 1e6:,.1f} MB, and the disk has {free / 1e6:,.1f} MB "
            f"left; free some space{links}"
        )


def _names(root: Path) -> Iterator[str]:
    """All files below a folder, and links to folders."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=fail) if root.is_dir() else ():
        below = folder[len(str(root)) + 1 :]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (f"{below}/{name}" if below else name for name in (*names, *links))


def _take_over(file: Path, target: Path, placer: Placer) -> None:
    """Gives a file of the former folder the same name in the new one."""
    if file.is_symlink():
        target.symlink_to(file.readlink())
    elif not _hard_link(file, target):
        placer.place(file, target)


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
