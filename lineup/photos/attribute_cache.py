"""The local cache of what pixels and EXIF data say of a photo, so that an unchanged photo is examined once.

`.cache/attributes/<fingerprint>/` is a store of blobs, one under each image_id: the photo's attributes as a
JSON list. The records of prepared images stay as they are: a new field there would prepare every photo again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lineup import fingerprint as fingerprints
from lineup.photos import image_opening, pixel_attributes
from lineup.photos.image_cache import FileRecord, ImageCache, ReserveMemory
from lineup.photos.pixel_attributes import PixelAttributes
from lineup.storage.blobs import BlobStore


@dataclass(frozen=True)
class AttributeCache:
    """The attributes of the photos of one cache of prepared images."""

    store: BlobStore
    images: ImageCache

    @classmethod
    def open(cls, root: Path, images: ImageCache) -> AttributeCache:
        """The one below the local cache's folder `root`."""
        ingredients = {
            "images": images.fingerprint,
            "code": fingerprints.code_digest(Path(pixel_attributes.__file__)),
            "attributes": PixelAttributes._fields,
        }
        store = BlobStore.open(root / "attributes" / fingerprints.fingerprint(ingredients))
        return cls(store, images)

    def fill(self, data: bytes, record: FileRecord, raw: Path, reserve: ReserveMemory) -> None:
        """Adds a photo's attributes unless they are there.

        Args:
            data: the bytes of the file `raw`.
            record: what is known of them; they can be decoded.
            reserve: entered while the prepared image is decoded.
        """
        if self._read(record.image_id):
            return
        replaced = bool(record.prepared_id)
        prepared = self.images.stored_bytes(record.image_id, True, [raw]) if replaced else data
        with reserve(image_opening.working_memory(prepared)):
            self._examine(record.image_id, data, prepared)

    def attributes(self, image_id: str, replaced: bool, raw: Sequence[Path]) -> PixelAttributes:
        """A photo's attributes; they are computed again if the cache has lost them.

        Args:
            image_id, replaced, raw: as in `ImageCache.stored_bytes`.
        Raises:
            BadImage: none of the files holds the image any more.
        """
        if cached := self._read(image_id):
            return cached
        prepared = self.images.stored_bytes(image_id, replaced, raw)
        original = self.images.stored_bytes(image_id, False, raw) if replaced else prepared
        return self._examine(image_id, original, prepared)

    def _examine(self, image_id: str, original: bytes, prepared: bytes) -> PixelAttributes:
        attributes = pixel_attributes.examine(original, prepared)
        self.store.write(image_id, json.dumps([image_id, *attributes]).encode())
        return attributes

    def _read(self, image_id: str) -> PixelAttributes | None:
        content = self.store.read(image_id)
        if content is None:
            return None
        key, *values = json.loads(bytes(content))
        # An entry that was copied to another image's name is whole, but not that image's.
        return PixelAttributes(*values) if key == image_id else None
