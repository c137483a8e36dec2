"""Small pictures for the report, one file per image.

They are loose files so that the browser reads only those in view, and DVC stores and pushes only new ones.
A query's results are spread over all images, so sheets or scripts of many thumbnails would have to be read
nearly whole for one screen.

DVC removes every thumbnail before the stage writes them again. The local cache therefore has them too, in the
store `.cache/thumbnails/<fingerprint>/`, each under the SHA-256 of the prepared image's bytes.
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
from lineup.storage.blobs import BlobStore

LONGER_SIDE_PX = 128
_JPEG_QUALITY = 80
_IMAGES_PER_BATCH = 64


def thumbnail(data: bytes) -> bytes:
    """A prepared image's bytes -> JPEG bytes, at most LONGER_SIDE_PX high and wide."""
    rgb = decoding.decode(data)
    rgb.thumbnail((LONGER_SIDE_PX, LONGER_SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    rgb.info.clear()
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def cache_folder(root: Path) -> Path:
    """The store in the local cache `root`; the name hashes all that decides a thumbnail but the image."""
    libraries = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib", "webp")}
    code = code_digest(*decoding.CODE, Path(__file__))
    return root / "thumbnails" / fingerprint({"code": code, "pillow": PIL.__version__, **libraries})


def write(folder: Path, prepared: Iterable[decoding.PreparedImage], cache: Path, threads: int) -> int:
    """Writes <folder>/<image_id>.jpg for each image, once; the folder appears when it is complete.

    Args:
        folder: replaced if it exists.
        prepared: the images, equal ids next to each other.
        cache: `cache_folder`; only what it lacks is drawn, and then added to it.
        threads: how many thumbnails are drawn at once.
    Returns:
        The number of thumbnails.
    """
    store = BlobStore.open(cache)
    count = 0

    def read_or_draw(image: decoding.PreparedImage) -> bytes | memoryview:
        key = hashlib.sha256(image.data).hexdigest()
        cached = store.read(key)
        if cached is not None:
            return cached
        drawn = thumbnail(image.data)
        store.write(key, drawn)
        return drawn

    def fill(temporary: Path) -> None:
        nonlocal count
        temporary.mkdir()
        with ThreadPoolExecutor(threads) as pool:  # Pillow releases Python's lock as it decodes and encodes.
            for batch in _batches(_distinct(prepared), _IMAGES_PER_BATCH):
                for image, data in zip(batch, pool.map(read_or_draw, batch), strict=True):
                    (temporary / f"{image.image_id}.jpg").write_bytes(data)
                count += len(batch)

    files.replace_atomically(folder, fill)
    return count


def _distinct(prepared: Iterable[decoding.PreparedImage]) -> Iterator[decoding.PreparedImage]:
    """Each image once: it may be query and gallery at once, and then comes twice in succession."""
    last = None
    for image in prepared:
        if image.image_id != last:
            yield image
        last = image.image_id


def _batches(prepared: Iterator[decoding.PreparedImage], size: int) -> Iterator[list[decoding.PreparedImage]]:
    while batch := list(islice(prepared, size)):
        yield batch
