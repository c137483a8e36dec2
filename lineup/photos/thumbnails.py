"""Small pictures for the report, one file per image.

Loose files: the browser reads just those in view, and DVC stores and pushes just the new ones. Sheets or
scripts of many would have to be read nearly whole for one screen, as a query's answers are spread over all of
them.

DVC removes them all before they are written again, so they're kept in the side cache too:
`.cache/thumbnails/<fingerprint>/`
`<2 hex digits>/<SHA-256 of the prepared bytes>`, each the SHA-256 of the JPEG, then the JPEG.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import PIL
from PIL import Image, features

from lineup.fingerprint import code_digest, fingerprint
from lineup.photos import decoding
from lineup.storage import files

SIDE = 128  # pixels
_QUALITY = 80
_AT_ONCE = 64  # images in memory


def thumbnail(data: bytes) -> bytes:
    """A prepared image's bytes -> JPEG bytes, at most SIDE pixels high and wide."""
    rgb = decoding.decode(data)
    rgb.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    rgb.info.clear()
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def cache_folder(root: Path) -> Path:
    """Of the side cache below `root`: its name is the fingerprint of all that decides a thumbnail besides the
    image.
    """
    libraries = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib", "webp")}
    code = code_digest(*decoding.CODE, Path(__file__))
    return root / "thumbnails" / fingerprint({"code": code, "pillow": PIL.__version__, **libraries})


def _read(entry: Path) -> bytes | None:
    """What is kept; None if it isn't there, or damaged."""
    try:
        content = entry.read_bytes()
    except FileNotFoundError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def _keep(entry: Path, made: bytes) -> None:
    files.replace_atomically(
        entry, lambda temporary: temporary.write_bytes(hashlib.sha256(made).digest() + made)
    )


def write(folder: Path, prepared: Iterable[decoding.PreparedImage], cache: Path, threads: int) -> int:
    """Writes <folder>/<image_id>.jpg for each image, once; the folder appears when it is whole. Returns how
    many.

    Draws only what the cache (`cache_folder`) lacks, and keeps it there; the same bytes either way.
    """
    count = 0

    def read_or_draw(image: decoding.PreparedImage) -> tuple[Path, bytes, bool]:
        name = hashlib.sha256(image.data).hexdigest()
        entry = cache / name[:2] / name
        kept = _read(entry)
        return entry, thumbnail(image.data) if kept is None else kept, kept is None

    def fill(temporary: Path) -> None:
        nonlocal count
        temporary.mkdir()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and encodes beside Python
            for some in _batches(_distinct(prepared), _AT_ONCE):
                for image, (entry, data, new) in zip(some, pool.map(read_or_draw, some), strict=True):
                    if new:
                        _keep(entry, data)
                    (temporary / f"{image.image_id}.jpg").write_bytes(data)
                count += len(some)

    files.replace_atomically(folder, fill)
    return count


def _distinct(prepared: Iterable[decoding.PreparedImage]) -> Iterator[decoding.PreparedImage]:
    """An image may be query and gallery at once; the two come one after the other."""
    last = None
    for image in prepared:
        if image.image_id != last:
            yield image
        last = image.image_id


def _batches(prepared: Iterator[decoding.PreparedImage], size: int) -> Iterator[list[decoding.PreparedImage]]:
    while some := list(islice(prepared, size)):
        yield some
