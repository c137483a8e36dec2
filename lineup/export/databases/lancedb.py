"""LanceDB: tables in a folder, in the open format Lance; no server.

Its usual index is IVF_PQ: vectors are compared by short codes, of those lists whose centres are nearest. The
true vectors compare again the refine_factor * k first, if a search asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import IvfPq
from lancedb.query import LanceVectorQueryBuilder
from lancedb.table import Table

from lineup.errors import UserError
from lineup.export import server_address
from lineup.export.database import Photo, Provenance, Settings, Vector, folder_bytes
from lineup.search.vectors import Metric, Vectors

ADDRESS = "lancedb:FOLDER"
FAULTS = (RuntimeError, ValueError, OSError)
INDEX_SETTINGS = ("num_partitions", "num_sub_vectors", "num_bits")
SEARCH_SETTINGS = ("nprobes", "refine_factor")
DENSER_INDEX = "give each vector more codes, as `--index num_sub_vectors=N` with N up to the dimensions"

# PQ learns 256 centroids.
_LEAST_PHOTOS_FOR_AN_INDEX = 256
_MOST_FRAGMENTS = 100  # from here on, LanceDB's documentation asks for compaction
_METADATA_KEY = b"lineup"


def secrets(address: str) -> tuple[str, ...]:
    """A folder has none; an address of a server, given by mistake, may."""
    return server_address.secrets(address)


def search_code(settings: Settings) -> str:
    """As calls of lancedb's query builder."""
    return "".join(f".{name}({value})" for name, value in settings.items())


def connect(address: str, name: str) -> Collection:
    """The table of this name in a folder."""
    if "://" in address:
        raise UserError(f"--into {ADDRESS}: an address of a server is not a folder; name one on this machine")
    return Collection(Path(address), name)


class Collection:
    """A table."""

    def __init__(self, folder: Path, name: str) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--into {ADDRESS}: {folder} is not a folder; name another")
        self._folder, self._name = folder, name
        self._database = lancedb.connect(str(folder))
        self._opened: Table | None = None
        self._known: Provenance | None = None

    @property
    def version(self) -> str:
        """The library's."""
        return f"LanceDB {lancedb.__version__}"

    @property
    def _table(self) -> Table:
        if self._opened is None:
            self._opened = self._database.open_table(self._name)
        return self._opened

    def exists(self) -> bool:
        """A table is a folder of its own."""
        return (self._folder / f"{self._name}.lance").exists()

    def provenance(self) -> Provenance | None:
        """From the metadata of the table's schema."""
        metadata = self._table.schema.metadata or {}
        return Provenance.from_text(metadata.get(_METADATA_KEY, b"").decode(errors="replace"))

    def check(self, provenance: Provenance) -> None:
        """Any vectors will do."""

    def create(self, provenance: Provenance) -> None:
        """The columns are image_id, label, paths and embedding."""
        schema = pa.schema(
            [
                pa.field("image_id", pa.string(), nullable=False),
                pa.field("label", pa.string()),
                pa.field("paths", pa.list_(pa.string())),
                pa.field("embedding", pa.list_(pa.float32(), provenance.dim)),
            ],
            metadata={_METADATA_KEY: provenance.as_text()},
        )
        self._opened = self._database.create_table(self._name, schema=schema)

    def drop(self) -> None:
        """Removes the table's folder."""
        self._opened = self._known = None
        self._database.drop_table(self._name)

    def photos(self) -> Iterator[Photo]:
        """In batches, as LanceDB reads them."""
        columns = self._table.search().select(["image_id", "label", "paths"])
        for batch in columns.to_batches():
            for line in batch.to_pylist():
                yield Photo(line["image_id"], line["label"], tuple(line["paths"]))

    def add(self, photos: Sequence[Photo], vectors: Vectors) -> None:
        """One version of the table."""
        schema = self._table.schema
        columns = [
            pa.array([photo.image_id for photo in photos], pa.string()),
            pa.array([photo.label for photo in photos], pa.string()),
            pa.array([photo.paths for photo in photos], pa.list_(pa.string())),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
        ]
        self._table.add(pa.table(columns, schema=schema))

    def remove(self, image_ids: Sequence[str]) -> None:
        """The ids are hexadecimal digits, so they need no escaping."""
        self._table.delete(f"image_id IN ({', '.join(repr(image_id) for image_id in image_ids)})")

    def build_index(self, settings: Settings, changed: bool) -> None:
        """Trained again after each change. Old versions stay for a week, for services that read them."""
        if self._table.count_rows() < _LEAST_PHOTOS_FOR_AN_INDEX:
            return
        if not changed and not settings and self._table.list_indices():
            return
        if len(list((self._folder / f"{self._name}.lance" / "data").iterdir())) > _MOST_FRAGMENTS:
            self._table.optimize()
        options: dict[str, Any] = {"distance_type": self._metric, **settings}
        self._table.create_index("embedding", config=IvfPq(**options), replace=True)

    @property
    def _metric(self) -> Metric:
        if self._known is None:
            self._known = self.provenance()
        assert self._known is not None, "only collections of Lineup's are searched"
        return self._known.metric

    def index(self) -> str:
        """With the length of the codes."""
        for index in self._table.list_indices():
            details = dict(index.index_details or {}).get("compression", {})
            described = [
                f"{name}={details[name]}" for name in ("num_sub_vectors", "num_bits") if name in details
            ]
            return ", ".join(["IVF_PQ", *described])
        return f"none, as it takes {_LEAST_PHOTOS_FOR_AN_INDEX} photos or more: every vector is compared"

    def nearest(self, vector: Vector, k: int, settings: Settings) -> list[str]:
        """Both settings belong to the query."""
        query = self._table.search(vector, vector_column_name="embedding", query_type="vector")
        assert isinstance(query, LanceVectorQueryBuilder), "a vector was given"
        query = query.distance_type(self._metric)
        if "nprobes" in settings:
            query = query.nprobes(settings["nprobes"])
        if "refine_factor" in settings:
            query = query.refine_factor(settings["refine_factor"])
        # With _distance, since LanceDB warns where it is left out.
        return query.limit(k).select(["image_id", "_distance"]).to_arrow().column("image_id").to_pylist()

    def wider(self) -> Iterable[Settings]:
        """First true vectors for the best candidates, then more lists."""
        if not self._table.list_indices():
            return []
        return [
            {"refine_factor": 5},
            {"refine_factor": 20},
            {"nprobes": 50, "refine_factor": 20},
            {"nprobes": 200, "refine_factor": 50},
        ]

    def size_bytes(self) -> int:
        """Of the table's folder, with its old versions."""
        return folder_bytes(self._folder / f"{self._name}.lance")

    def close(self) -> None:
        """A folder needs no closing."""
