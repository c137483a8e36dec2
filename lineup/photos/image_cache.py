"""Side cache of preprocess: what was learnt from a file's bytes, and the bytes stored in their place.

`.cache/prepared/<fingerprint>/<2 hex digits>/<image_id>`: the SHA-256 of all that follows (32 bytes), one
line of JSON, then the replacement where there is one.
Entries appear by a rename and hold the same bytes whoever writes them: processes may share it, a kill leaves
it whole.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import PIL
from PIL import features

from lineup.errors import OF_ALL_FILES
from lineup.photos import decoding
from lineup.photos.decoding import BadImage
from lineup.storage import files

MAX_FILE_BYTES = 512 * 2**20  # a film between the photos is not read into memory
_DIGEST_BYTES = 32

Room = Callable[
    [int], AbstractContextManager[object]
]  # entered with a number of bytes of memory that are taken within


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of a file's bytes.

    width, height: upright pixels; prepared_id: SHA-256 of what is stored in its place, else empty; problem:
    why it is no image, else empty; note: what its owner should know though it is used, else empty.
    """

    image_id: str
    pixels_id: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    prepared_id: str = ""
    problem: str = ""
    note: str = ""


def fingerprint(shorter_side_px: int, code: Sequence[bytes] = ()) -> str:
    """SHA-256 of all that decides a prepared image besides its file: the setting, our code, the decoders'
    versions.

    code: another commit's images.CODE, the files' contents, instead of this one's.
    """
    libraries = {
        name: features.version(name)
        for name in ("jpg", "libjpeg_turbo", "jpg_2000", "zlib", "zlib_ng", "libtiff", "webp", "avif")
    }
    digest = hashlib.sha256(b"".join(code or [file.read_bytes() for file in decoding.CODE])).hexdigest()
    decides = {
        "shorter_side_px": shorter_side_px,
        "code": digest,
        "pillow": PIL.__version__,
        "heif": decoding.heif_version(),
        **libraries,
    }
    decides["entry"] = [field.name for field in fields(FileRecord)]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def read_file(path: Path) -> bytes:
    """A raw file's bytes; follows links.

    Raises BadImage with the reason where it can't be read, OSError where the disk is at fault.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
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
    """folder: of one fingerprint. A damaged entry counts as absent."""

    folder: Path
    shorter_side_px: int

    @classmethod
    def open(cls, root: Path, shorter_side_px: int) -> ImageCache:
        return cls(root / "prepared" / fingerprint(shorter_side_px), shorter_side_px)

    def examine(self, data: bytes, room: Room = nullcontext) -> FileRecord:
        """FileRecord of a file's bytes; decoded only if these bytes were never seen.

        room: entered while an image is prepared.
        """
        image_id = hashlib.sha256(data).hexdigest()
        if entry := self._read(image_id):
            return entry[0]
        with room(decoding.working_memory(data)):
            return self._fill(image_id, data)[0]

    def stored(self, image_id: str, replaced: bool, raw: Iterable[Path]) -> bytes:
        """The bytes to store for an image: its own, or what replaces them.

        raw: its files, any of which will do. Raises BadImage if none holds the bytes of `image_id` any more.
        """
        entry = self._read(image_id) if replaced else None
        if entry:
            return entry[1]
        for path in raw:
            data = read_file(path)
            if hashlib.sha256(data).hexdigest() == image_id:
                return self._fill(image_id, data)[1] if replaced else data
        raise BadImage("changed while it was read")

    def _fill(self, image_id: str, data: bytes) -> tuple[FileRecord, bytes]:
        try:
            made = decoding.prepare(data, self.shorter_side_px)
        except (
            BadImage
        ) as error:  # not kept: decoders also say so where memory runs out, and then only this time
            return FileRecord(image_id, problem=str(error)), b""
        payload = made.replacement or b""
        prepared_id = hashlib.sha256(payload).hexdigest() if payload else ""
        facts = FileRecord(
            image_id, made.pixels_id, made.width, made.height, made.format, prepared_id, note=made.note
        )
        content = json.dumps(asdict(facts)).encode() + b"\n" + payload
        entry = hashlib.sha256(content).digest() + content
        files.replace_atomically(self._path(image_id), lambda temporary: temporary.write_bytes(entry))
        return facts, payload

    def _read(self, image_id: str) -> tuple[FileRecord, bytes] | None:
        try:
            entry = self._path(image_id).read_bytes()
        except OSError:
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        head, _, payload = content.partition(b"\n")
        facts = FileRecord(**json.loads(head))
        return (facts, payload) if facts.image_id == image_id else None  # not another image's whole entry

    def _path(self, image_id: str) -> Path:
        return self.folder / image_id[:2] / image_id
