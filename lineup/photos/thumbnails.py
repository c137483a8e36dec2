"""Pictures for the report: a small one of each image, in a file of its own, and a larger one, in a script.

Thumbnails are loose files so that the browser reads only those in view, and DVC stores and pushes only new
ones. A query's results are spread over all images, so sheets of many thumbnails would have to be read nearly
whole for one screen.

The larger pictures are read when somebody looks at one. They come in scripts, because a page that was opened
from disk may copy a picture from a script into an image to save, and no other. A script holds the pictures
whose ids begin with the same three hex digits, so there are at most 4,096 scripts.

DVC removes all pictures before the stage writes them again. The local cache therefore has them too, in the
store `.cache/thumbnails/<fingerprint>/`, under the SHA-256 of the size's name and the prepared image's bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import Image, features

from lineup.fingerprint import code_digest, fingerprint
from lineup.photos import decoding, prepared_images
from lineup.photos.prepared_images import PreparedImage
from lineup.storage import files
from lineup.storage.blobs import BlobStore

LONGER_SIDE_PX = 256
PICTURE_LONGER_SIDE_PX = 640
_ID_DIGITS_PER_SCRIPT = 3
_IMAGES_PER_BATCH = 64


@dataclass(frozen=True)
class Size:
    """A size of picture, and how it is compressed; `method` is WebP's effort, 0 to 6."""

    name: str
    longer_side_px: int
    format: str
    quality: int
    method: int = 4

    def draw(self, rgb: Image.Image) -> bytes:
        """The picture as the content of a file."""
        small = rgb.copy()
        sides = (self.longer_side_px, self.longer_side_px)
        small.thumbnail(sides, Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info.clear()
        buffer = io.BytesIO()
        small.save(buffer, self.format, quality=self.quality, method=self.method)
        return buffer.getvalue()


THUMBNAIL = Size("thumbnail", LONGER_SIDE_PX, "JPEG", quality=75)
PICTURE = Size("picture", PICTURE_LONGER_SIDE_PX, "WEBP", quality=65, method=2)


class Drawn(NamedTuple):
    """The two pictures of a photo, as the content of files."""

    thumbnail: bytes | memoryview
    picture: bytes | memoryview


def thumbnail(data: bytes) -> bytes:
    """A prepared image's bytes -> JPEG bytes, at most LONGER_SIDE_PX high and wide."""
    return THUMBNAIL.draw(decoding.decode(data))


def draw(data: bytes) -> Drawn:
    """A prepared image's bytes -> both pictures, of which the larger is WebP."""
    rgb = decoding.decode(data)
    return Drawn(THUMBNAIL.draw(rgb), PICTURE.draw(rgb))


def cache_folder(root: Path) -> Path:
    """The store in the local cache `root`; the name hashes all that decides a picture but the image."""
    libraries = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib", "webp")}
    code = code_digest(*decoding.CODE, Path(prepared_images.__file__), Path(__file__))
    return root / "thumbnails" / fingerprint({"code": code, "pillow": PIL.__version__, **libraries})


def write(
    thumbnails: Path,
    pictures: Path,
    prepared: Iterable[PreparedImage],
    cache: Path,
    threads: int,
) -> int:
    """Writes both pictures of each image, once; the folders appear when they are complete.

    Args:
        thumbnails: gets <image_id>.jpg of each image; replaced if it exists.
        pictures: gets <first digits of image_id>.js; replaced if it exists.
        prepared: the images, sorted by id.
        cache: `cache_folder`; only what it lacks is drawn, and then added to it.
        threads: how many images are drawn at once.
    Returns:
        The number of images.
    """
    count = 0

    def fill(thumbnails_there: Path, pictures_there: Path) -> None:
        nonlocal count
        thumbnails_there.mkdir()
        pictures_there.mkdir()
        drawn = _drawn(prepared, BlobStore.open(cache), threads)
        for digits, of_script in groupby(drawn, lambda item: item[0][:_ID_DIGITS_PER_SCRIPT]):
            data_urls = {}
            for image_id, both in of_script:
                (thumbnails_there / f"{image_id}.jpg").write_bytes(both.thumbnail)
                data_urls[image_id] = f"data:image/webp;base64,{base64.b64encode(both.picture).decode()}"
                count += 1
            (pictures_there / f"{digits}.js").write_text(_script(data_urls), encoding="ascii", newline="\n")

    files.replace_atomically(
        pictures, lambda folder: files.replace_atomically(thumbnails, lambda other: fill(other, folder))
    )
    return count


def _script(data_urls: dict[str, str]) -> str:
    """A script that adds pictures to the page's LINEUP_PICTURES; ids and base64 need no escapes."""
    return (
        f"Object.assign((window.LINEUP_PICTURES ??= {{}}), {json.dumps(data_urls, separators=(',', ':'))});\n"
    )


def _drawn(prepared: Iterable[PreparedImage], store: BlobStore, threads: int) -> Iterator[tuple[str, Drawn]]:
    """Each image's id and pictures, from the store where it has them."""

    def read_or_draw(image: PreparedImage) -> Drawn:
        keys = [hashlib.sha256(size.name.encode() + image.data).hexdigest() for size in (THUMBNAIL, PICTURE)]
        cached = [store.read(key) for key in keys]
        if cached[0] is not None and cached[1] is not None:
            return Drawn(cached[0], cached[1])
        drawn = draw(image.data)
        for key, picture in zip(keys, drawn, strict=True):
            store.write(key, picture)
        return drawn

    with ThreadPoolExecutor(threads) as pool:  # Pillow releases Python's lock as it decodes and encodes.
        for batch in _batches(_distinct(prepared), _IMAGES_PER_BATCH):
            for image, both in zip(batch, pool.map(read_or_draw, batch), strict=True):
                yield image.image_id, both


def _distinct(prepared: Iterable[PreparedImage]) -> Iterator[PreparedImage]:
    """Each image once: it may be query and gallery at once, and then comes twice in succession."""
    last = None
    for image in prepared:
        if image.image_id != last:
            yield image
        last = image.image_id


def _batches(prepared: Iterator[PreparedImage], size: int) -> Iterator[list[PreparedImage]]:
    while batch := list(islice(prepared, size)):
        yield batch
