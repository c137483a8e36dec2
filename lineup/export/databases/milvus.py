"""Milvus: a collection of a server, or of Milvus Lite in one file, with an HNSW index."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient, MilvusException

from lineup.errors import UserError
from lineup.export import server_address
from lineup.export.database import MOST_PATHS, Photo, Provenance, Settings, Vector, folder_bytes
from lineup.search.vectors import Vectors

ADDRESS = "milvus:FILE.db or milvus:http://HOST:PORT"
FAULTS = (MilvusException, OSError)
INDEX_SETTINGS = ("M", "efConstruction")
SEARCH_SETTINGS = ("ef",)
secrets = server_address.secrets
DENSER_INDEX = "build a denser graph: `--index M=32 --index efConstruction=400`"

TOKEN_VARIABLE = "MILVUS_TOKEN"
_CONNECT_SECONDS = 10
_SECONDS_BETWEEN_LOOKS = 0.5
_DEFAULT_INDEX = {"M": 16, "efConstruction": 200}
_METRICS = {"cosine": "COSINE", "l2": "L2"}
_LONGEST_TEXT_BYTES = 65_535  # of Milvus
_PROPERTY = "lineup"
_PHOTOS_PER_FETCH = 5_000


def search_code(settings: Settings) -> str:
    """As an argument of pymilvus."""
    return f'search_params={{"params": {dict(settings)}}}'.replace("'", '"')


def connect(address: str, name: str) -> Collection:
    """The collection of this name on a server, or in a file.

    Raises:
        UserError: the address is neither of the two, or no server answers.
    """
    for library in ("pymilvus", "milvus_lite", "grpc"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # their errors are raised, too
    is_server = address.startswith(("http://", "https://"))
    if not is_server and ("://" in address or not address.endswith(".db")):
        raise UserError(f"--into milvus: the address is not one of Milvus; write {ADDRESS}")
    if not is_server and not Path(address).parent.is_dir():
        raise UserError(f"--into milvus:{address}: {Path(address).parent} is not a folder; create it")
    try:
        client = MilvusClient(**_server(address) if is_server else {"uri": address}, timeout=_CONNECT_SECONDS)
    except MilvusException as error:
        raise UserError(
            f"--into milvus: no connection ({error.message.strip()}); start the server, or correct the "
            "address"
        ) from None
    return Collection(client, None if is_server else Path(address), name)


def _server(address: str) -> dict[str, str]:
    """The address without the password, and the token that Milvus takes instead."""
    parsed = server_address.parse(address, ADDRESS)
    token = f"{parsed.user}:{parsed.password}" if parsed.user else os.environ.get(TOKEN_VARIABLE, "")
    return {"uri": parsed.url, "token": token}


class Collection:
    """A collection."""

    def __init__(self, client: MilvusClient, file: Path | None, name: str) -> None:
        self._client: Any = client  # its types do not tell its calls from those of the asynchronous client
        self._file, self._name = file, name
        self._known: Provenance | None = None
        self._loaded = False

    @property
    def version(self) -> str:
        """Of the server, or of Milvus Lite."""
        number = self._client.get_server_version()
        return f"Milvus Lite {number.rpartition('-')[2]}" if self._file else f"Milvus {number}"

    def exists(self) -> bool:
        """Whether there is a collection of this name in the default database."""
        return self._client.has_collection(self._name)

    def provenance(self) -> Provenance | None:
        """From the description, or from the properties, since Milvus Lite stores no description."""
        described = self._client.describe_collection(self._name)
        texts = described.get("description"), dict(described.get("properties") or {}).get(_PROPERTY)
        return next(filter(None, map(Provenance.from_text, texts)), None)

    def check(self, provenance: Provenance) -> None:
        """Any vectors will do."""

    def create(self, provenance: Provenance) -> None:
        """The fields are image_id, label, paths and embedding. Without an index, a server reads nothing."""
        text = provenance.as_text()
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False, description=text)
        schema.add_field("image_id", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("label", DataType.VARCHAR, max_length=_LONGEST_TEXT_BYTES, nullable=True)
        schema.add_field(
            "paths",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=MOST_PATHS,
            max_length=_LONGEST_TEXT_BYTES,
        )
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=provenance.dim)
        self._client.create_collection(self._name, schema=schema, properties={_PROPERTY: text})
        self._create_index(_DEFAULT_INDEX)

    def drop(self) -> None:
        """Drops the collection with its index."""
        self._known, self._loaded = None, False
        self._client.drop_collection(self._name)

    def photos(self) -> Iterator[Photo]:
        """Milvus reads only collections that are loaded."""
        self._load()
        batches = self._client.query_iterator(
            self._name,
            batch_size=_PHOTOS_PER_FETCH,
            output_fields=["image_id", "label", "paths"],
            consistency_level="Strong",
        )
        while lines := batches.next():
            for line in lines:
                yield Photo(line["image_id"], line["label"], tuple(line["paths"]))
        batches.close()

    def add(self, photos: Sequence[Photo], vectors: Vectors) -> None:
        """One request."""
        self._client.upsert(
            self._name,
            [
                {
                    "image_id": photo.image_id,
                    "label": photo.label,
                    "paths": list(photo.paths),
                    "embedding": vector,
                }
                for photo, vector in zip(photos, vectors, strict=True)
            ],
        )

    def remove(self, image_ids: Sequence[str]) -> None:
        """By the primary key."""
        self._client.delete(self._name, ids=list(image_ids))

    def build_index(self, settings: Settings, changed: bool) -> None:
        """A server brings an existing index up to date by itself; Milvus Lite's is built again.

        Milvus Lite builds in the background, calls the index finished meanwhile, and may read half a file of
        it. Of a released collection it builds nothing, dropping waits for what is being built, and creating
        waits for the index.
        """
        existing = self._index_settings()
        wanted = {**_DEFAULT_INDEX, **settings} if settings or existing is None else existing
        again = existing != wanted or (changed and self._file is not None)
        if again:
            self._client.release_collection(self._name)
            self._loaded = False
        if changed:
            self._client.flush(self._name)
        if again:
            if existing is not None:
                self._client.drop_index(self._name, self._described_index()["index_name"])
            self._create_index(wanted)
        while int(self._described_index().get("pending_index_rows") or 0):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self._load()

    def _create_index(self, settings: Settings) -> None:
        parameters = self._client.prepare_index_params()
        parameters.add_index(
            "embedding",
            index_type="HNSW",
            metric_type=_METRICS[self._origin.metric],
            params={"params": dict(settings)},  # Milvus Lite reads nothing beside "params"
        )
        self._client.create_index(self._name, parameters)

    def _load(self) -> None:
        if not self._loaded:
            self._client.load_collection(self._name)
            self._loaded = True

    def _described_index(self) -> dict[str, Any]:
        """Empty if there is none."""
        names = self._client.list_indexes(self._name)
        return dict(self._client.describe_index(self._name, names[0]) or {}) if names else {}

    def _index_settings(self) -> Settings | None:
        described = self._described_index()
        if not described:
            return None
        stated = {**described, **(described.get("params") or {})}
        return {name: int(stated.get(name, default)) for name, default in _DEFAULT_INDEX.items()}

    def index(self) -> str:
        """With its settings."""
        settings = self._index_settings() or {}
        return ", ".join(["HNSW", *(f"{name}={value}" for name, value in settings.items())])

    def nearest(self, vector: Vector, k: int, settings: Settings) -> list[str]:
        """A server refuses an `ef` below k, so it is raised to k."""
        self._load()
        parameters = {name: max(value, k) for name, value in settings.items()}
        [hits] = self._client.search(
            self._name,
            data=[vector],
            anns_field="embedding",
            limit=k,
            search_params={"metric_type": _METRICS[self._origin.metric], "params": parameters},
            output_fields=["image_id"],
        )
        return [hit["image_id"] for hit in hits]

    def wider(self) -> Iterable[Settings]:
        """A graph's only setting of a search is the number of its candidates."""
        return [{"ef": candidates} for candidates in (128, 256, 512, 1_024)]

    def size_bytes(self) -> int | None:
        """Of Milvus Lite's folder, with all that is in it; a server does not tell."""
        if self._file is None:
            return None
        return folder_bytes(self._file)

    def close(self) -> None:
        """Ends the connection; Milvus Lite ends with the process."""
        self._client.close()

    @property
    def _origin(self) -> Provenance:
        if self._known is None:
            self._known = self.provenance()
        assert self._known is not None, "only collections of Lineup's are searched"
        return self._known
