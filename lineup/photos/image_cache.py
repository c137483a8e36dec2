"""The local cache of preprocess: what was learned from a file's bytes, and the bytes stored instead.

`.cache/prepared/<fingerprint>/` is a store of blobs, one under each image_id: a line of JSON with the file's
record, then the replacement of the file's bytes where there is one.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import PIL
from PIL import features

from lineup import fingerprint as fingerprints
from lineup.errors import OF_ALL_FILES, UserError
from lineup.photos import decoding, image_opening, image_preparation
from lineup.photos.image_opening import BadImage
from lineup.storage.blobs import BlobStore

MAX_FILE_BYTES = 512 * 2**20  # A video among the photos must not be read into memory.
_DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "zlib", "zlib_ng", "libtiff", "webp", "avif")

# Maps the bytes of memory that preparing an image takes to a context that reserves them.
ReserveMemory = Callable[[int], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of a file's bytes.

    Attributes:
        image_id: SHA-256 of the bytes, in hex.
        pixels_id: SHA-256 of the upright RGB pixels and their size, in hex.
        width, height: in pixels, upright.
        format: according to the content, such as JPEG.
        prepared_id: SHA-256 of the bytes that are stored instead of the file's own; empty if those are.
        problem: why the file is not a usable image, as the end of a sentence; else empty.
        note: what the owner of a usable file should know, as the end of a sentence; else empty.
    """

    image_id: str
    pixels_id: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    prepared_id: str = ""
    problem: str = ""
    note: str = ""


def fingerprint(shorter_side_px: int) -> str:
    """The hash of all that decides a prepared image besides its file: the setting, our code, the decoders."""
    return fingerprints.fingerprint(
        {
            "shorter_side_px": shorter_side_px,
            "code": fingerprints.code_digest(*decoding.CODE, Path(image_preparation.__file__)),
            "pillow": PIL.__version__,
            "heif": image_opening.heif_version(),
            "record": [field.name for field in fields(FileRecord)],
            **{name: features.version(name) for name in _DECODERS},
        }
    )


@contextmanager
def unchanged(root: Path, name: str) -> Iterator[None]:
    """Raises UserError if inside the block a file below `root` no longer holds its image."""
    try:
        yield
    except BadImage as error:
        raise UserError(f"{root / name}: {error}; run again once nothing writes to {root}") from None


def read_file(path: Path) -> bytes:
    """A raw file's bytes; links are followed.

    Raises:
        BadImage: the file can't be read; the message is the reason.
        OSError: the disk is at fault, not this file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # Reading a pipe would wait for ever.
            raise BadImage("is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise BadImage(f"is larger than {MAX_FILE_BYTES // 2**20} MB")
        return path.read_bytes()
    except PermissionError:
        raise BadImage("can't be read: permission denied") from None
    except OSError as error:
        if error.errno in OF_ALL_FILES:
            raise
        if path.is_symlink() and not path.exists():
            raise BadImage("is a broken link") from None
        raise BadImage(f"can't be read: {(error.strerror or type(error).__name__).lower()}") from None


@dataclass(frozen=True)
class ImageCache:
    """The prepared images of one fingerprint."""

    store: BlobStore
    shorter_side_px: int

    @classmethod
    def open(cls, root: Path, shorter_side_px: int) -> ImageCache:
        """The one below the local cache's folder `root` for this setting."""
        return cls(BlobStore.open(root / "prepared" / fingerprint(shorter_side_px)), shorter_side_px)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all that decides a record besides the photo's bytes."""
        return self.store.folder.name

    def examine(self, data: bytes, reserve: ReserveMemory = nullcontext) -> FileRecord:
        """The record of a file's bytes, which are decoded only if they were never seen before.

        Args:
            data: the file's bytes.
            reserve: entered while an image is prepared.
        """
        image_id = hashlib.sha256(data).hexdigest()
        if entry := self._read(image_id):
            return entry[0]
        with reserve(image_opening.working_memory(data)):
            return self._prepare(image_id, data)[0]

    def stored_bytes(self, image_id: str, replaced: bool, raw: Iterable[Path]) -> bytes:
        """The bytes to store for an image: its file's own, or what replaces them.

        Args:
            image_id: the SHA-256 of the file's bytes.
            replaced: whether other bytes are stored than the file's own.
            raw: the files that hold the image, any of which will do.
        Raises:
            BadImage: none of the files holds the image any more.
        """
        entry = self._read(image_id) if replaced else None
        if entry:
            return entry[1]
        for path in raw:
            data = read_file(path)
            if hashlib.sha256(data).hexdigest() == image_id:
                return self._prepare(image_id, data)[1] if replaced else data
        raise BadImage("changed while it was read")

    def _prepare(self, image_id: str, data: bytes) -> tuple[FileRecord, bytes]:
        try:
            prepared = image_preparation.prepare(data, self.shorter_side_px)
        except BadImage as error:
            # Not cached: decoders fail in the same way where memory runs out, and then only this time.
            return FileRecord(image_id, problem=str(error)), b""
        replacement = prepared.replacement or b""
        record = FileRecord(
            image_id,
            prepared.pixels_id,
            prepared.width,
            prepared.height,
            prepared.format,
            hashlib.sha256(replacement).hexdigest() if replacement else "",
            note=prepared.note,
        )
        self.store.write(image_id, json.dumps(asdict(record)).encode() + b"\n", replacement)
        return record, replacement

    def _read(self, image_id: str) -> tuple[FileRecord, bytes] | None:
        content = self.store.read(image_id)
        if content is None:
            return None
        head, _, replacement = bytes(content).partition(b"\n")
        record = FileRecord(**json.loads(head))
        # An entry that was copied to another image's name is whole, but not that image's.
        return (record, replacement) if record.image_id == image_id else None
