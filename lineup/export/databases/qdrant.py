"""Qdrant: a collection of a server with an HNSW index, or of the client's local mode in a folder.

The local mode compares every vector. Its ids are UUIDs: the first half of image_id's 256 bits, which is also
stored in full.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from lineup.errors import UserError, reason
from lineup.export import server_address
from lineup.export.database import Photo, Provenance, Settings, Vector, folder_bytes
from lineup.search.vectors import Vectors

ADDRESS = "qdrant:FOLDER or qdrant:http://HOST:PORT"
FAULTS = (ApiException, ValueError, RuntimeError, OSError)
INDEX_SETTINGS = ("m", "ef_construct")
SEARCH_SETTINGS = ("hnsw_ef", "exact")
secrets = server_address.secrets
DENSER_INDEX = "build a denser graph: `--index m=32 --index ef_construct=200`"

KEY_VARIABLE = "QDRANT_API_KEY"
_CONNECT_SECONDS = 10
_BUILD_SECONDS_BETWEEN_LOOKS = 0.5
_DISTANCES = {"cosine": models.Distance.COSINE, "l2": models.Distance.EUCLID}
_PHOTOS_PER_FETCH = 5_000
_VALUES_PER_REQUEST = 2**19  # in JSON, about 10 MB of the 32 that a server accepts


def search_code(settings: Settings) -> str:
    """As an argument of qdrant_client."""
    words = (f"{name}={bool(value) if name == 'exact' else value}" for name, value in settings.items())
    return f"search_params=SearchParams({', '.join(words)})"


def connect(address: str, name: str) -> Collection:
    """The collection of this name on a server, or in a folder.

    Raises:
        UserError: the address is neither of the two, no server answers, or another process uses the folder.
    """
    if address.startswith(("http://", "https://")):
        return Collection(_server(address), None, name)
    if "://" in address or not address:
        raise UserError(f"--into qdrant: the address is not one of Qdrant; write {ADDRESS}")
    folder = Path(address)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--into qdrant:{address}: is not a folder; name another")
    # It warns that a server is faster, which the figures show.
    warnings.filterwarnings("ignore", "Local mode is not recommended")
    try:
        return Collection(QdrantClient(path=address), folder, name)
    except RuntimeError as error:
        raise UserError(
            f"--into qdrant:{address}: cannot be opened ({reason(error)}); end the process that uses it"
        ) from None


def _server(address: str) -> QdrantClient:
    parsed = server_address.parse(address, ADDRESS)
    key = parsed.password or parsed.user or os.environ.get(KEY_VARIABLE)
    warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
    try:
        client = QdrantClient(
            url=parsed.url,
            port=urlsplit(parsed.url).port or (443 if address.startswith("https:") else 6333),
            api_key=key or None,
            timeout=_CONNECT_SECONDS,
            check_compatibility=False,
        )
        client.info()
    except FAULTS as error:
        raise UserError(
            f"--into qdrant: no connection ({reason(error)}); start the server, or correct the address"
        ) from None
    return client


def _point_id(image_id: str) -> str:
    return str(UUID(hex=image_id[:32]))


class Collection:
    """A collection."""

    def __init__(self, client: QdrantClient, folder: Path | None, name: str) -> None:
        self._client, self._folder, self._name = client, folder, name

    @property
    def version(self) -> str:
        """Of the server, or of the client."""
        number = self._client.info().version
        return f"Qdrant's local mode {number}" if self._folder else f"Qdrant {number}"

    def exists(self) -> bool:
        """Whether there is a collection of this name."""
        return self._client.collection_exists(self._name)

    def provenance(self) -> Provenance | None:
        """From the collection's metadata."""
        metadata = self._client.get_collection(self._name).config.metadata or {}
        text = metadata.get("lineup")
        return Provenance.from_text(text if isinstance(text, str) else None)

    def check(self, provenance: Provenance) -> None:
        """Any vectors will do."""

    def create(self, provenance: Provenance) -> None:
        """The payload has image_id, label and paths."""
        self._client.create_collection(
            self._name,
            vectors_config=models.VectorParams(size=provenance.dim, distance=_DISTANCES[provenance.metric]),
            metadata={"lineup": provenance.as_text()},
        )

    def drop(self) -> None:
        """Removes the collection."""
        self._client.delete_collection(self._name)

    def photos(self) -> Iterator[Photo]:
        """From the payloads."""
        offset = None
        while True:
            points, offset = self._client.scroll(
                self._name, limit=_PHOTOS_PER_FETCH, offset=offset, with_payload=True, with_vectors=False
            )
            for point in points:
                payload = point.payload or {}
                yield Photo(payload["image_id"], payload["label"], tuple(payload["paths"]))
            if offset is None:
                return

    def add(self, photos: Sequence[Photo], vectors: Vectors) -> None:
        """In requests of a limited size."""
        size = max(1, _VALUES_PER_REQUEST // vectors.shape[1])
        for start in range(0, len(photos), size):
            some = photos[start : start + size]
            batch = models.Batch(
                ids=[_point_id(photo.image_id) for photo in some],
                vectors=vectors[start : start + size].tolist(),
                payloads=[
                    {"image_id": photo.image_id, "label": photo.label, "paths": list(photo.paths)}
                    for photo in some
                ],
            )
            self._client.upsert(self._name, batch, wait=True)

    def remove(self, image_ids: Sequence[str]) -> None:
        """By their points' ids."""
        points = models.PointIdsList(points=[_point_id(image_id) for image_id in image_ids])
        self._client.delete(self._name, points, wait=True)

    def build_index(self, settings: Settings, changed: bool) -> None:
        """Qdrant builds its index by itself, in segments that have become large enough; this waits for it."""
        if self._folder is not None:
            return
        if settings:
            options: dict[str, Any] = dict(settings)
            self._client.update_collection(self._name, hnsw_config=models.HnswConfigDiff(**options))
        while (status := self._client.get_collection(self._name).status) != models.CollectionStatus.GREEN:
            if status == models.CollectionStatus.RED:
                raise UserError(
                    "--into qdrant: the server failed to build the index (its status is red); its log says "
                    "why: mend it, and run again"
                )
            if status == models.CollectionStatus.GREY:  # it waits for a change before it goes on
                self._client.update_collection(self._name, optimizers_config=models.OptimizersConfigDiff())
            time.sleep(_BUILD_SECONDS_BETWEEN_LOOKS)

    def index(self) -> str:
        """With its settings, and how many vectors it does not cover."""
        if self._folder is not None:
            return "none, as the local mode has no index: every vector is compared"
        collection = self._client.get_collection(self._name)
        config, indexed = collection.config.hnsw_config, collection.indexed_vectors_count or 0
        words = f"HNSW, m={config.m}, ef_construct={config.ef_construct}"
        left = max(0, (collection.points_count or 0) - indexed)
        if not left:
            return words
        return f"{words}; {left:,} vectors are in segments too small for an index, and are all compared"

    def nearest(self, vector: Vector, k: int, settings: Settings) -> list[str]:
        """The local mode has no settings of a search."""
        search = None
        if settings and self._folder is None:
            search = models.SearchParams(
                hnsw_ef=settings.get("hnsw_ef"), exact=bool(settings.get("exact", 0))
            )
        answer = self._client.query_points(
            self._name,
            query=np.asarray(vector).tolist(),
            limit=k,
            search_params=search,
            with_payload=["image_id"],
        )
        return [(point.payload or {})["image_id"] for point in answer.points]

    def wider(self) -> Iterable[Settings]:
        """More candidates, and at last all."""
        if self._folder is not None:
            return []
        return [{"hnsw_ef": 200}, {"hnsw_ef": 400}, {"hnsw_ef": 800}, {"exact": 1}]

    def size_bytes(self) -> int | None:
        """Of the collection's folder; a server does not tell."""
        return None if self._folder is None else folder_bytes(self._folder / "collection" / self._name)

    def close(self) -> None:
        """Ends the connection, or frees the folder for others."""
        self._client.close()
