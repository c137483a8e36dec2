"""The contract of a vector database that a gallery can be loaded into, and how one is found by its name.

A database is one file of databases/, named as in `--into NAME:ADDRESS`. It has a class `Collection` that
fulfils the contract below, and the constants of `Kind`. Nothing else knows it by name. Its client is an extra
of that name in pyproject.toml.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from lineup.errors import UserError, reason, suggest
from lineup.export import databases
from lineup.search.vectors import Metric, Vectors

Vector = npt.NDArray[np.float32]
# Of an index or of a search, under the names that the database itself has for them.
Settings = Mapping[str, int]

# A photo with more files of the same bytes, such as a placeholder, is stored with the first of them only.
MOST_PATHS = 100


@dataclass(frozen=True)
class Photo:
    """What a database stores of a gallery photo beside its vector.

    image_id: the primary key; label: None where it is unknown; paths: of its files, below data/raw.
    """

    image_id: str
    label: str | None
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """What a collection remembers of its vectors, so that no others are added to them."""

    row: str
    fingerprint: str
    metric: Metric
    dim: int

    def as_text(self) -> str:
        """For the database's own remarks on a collection."""
        return json.dumps({"lineup": asdict(self)}, sort_keys=True)

    @staticmethod
    def from_text(text: str | None) -> Provenance | None:
        """What `as_text` wrote; None for any other text."""
        try:
            return Provenance(**json.loads(text or "")["lineup"])
        except (ValueError, TypeError, KeyError):
            return None


class Collection(Protocol):
    """One collection of a database (a table in some), which need not exist yet.

    Its metric and dimensions are those of the `Provenance` that it was created with. Calls raise the errors
    of `Kind.FAULTS`, and UserError where the sentence can say more.
    """

    @property
    def version(self) -> str:
        """Names and versions of what answers, for the heading of the figures."""
        ...

    def exists(self) -> bool:
        """Whether there is a collection of this name, whoever created it."""
        ...

    def provenance(self) -> Provenance | None:
        """What an existing collection remembers; None if it is not one of Lineup's."""
        ...

    def check(self, provenance: Provenance) -> None:
        """UserError if no collection can be created for such vectors."""
        ...

    def create(self, provenance: Provenance) -> None:
        """Creates the collection, empty. UserError if it cannot hold such vectors."""
        ...

    def drop(self) -> None:
        """Removes the collection with all that it holds."""
        ...

    def photos(self) -> Iterator[Photo]:
        """All that is stored, without vectors, in any order."""
        ...

    def add(self, photos: Sequence[Photo], vectors: Vectors) -> None:
        """Stores photos that the collection does not hold; a process that is killed may store some of them.

        vectors: float32 [n, D], as they are compared.
        """
        ...

    def remove(self, image_ids: Sequence[str]) -> None:
        """Removes some photos."""
        ...

    def build_index(self, settings: Settings, changed: bool) -> None:
        """Builds the usual approximate index, and waits until it covers every photo.

        Args:
            settings: of the index, to be used instead of the database's defaults. Without any, an index that
                exists stays as it is.
            changed: whether photos were added or removed since the index was built.
        """
        ...

    def index(self) -> str:
        """The kind and the settings of the index that answers, or why every vector is compared."""
        ...

    def nearest(self, vector: Vector, k: int, settings: Settings) -> list[str]:
        """The ids of the k nearest photos, nearest first; fewer where the index finds fewer.

        settings: of the search, to be used instead of the database's defaults.
        """
        ...

    def wider(self) -> Iterable[Settings]:
        """Search settings that find more than the defaults, at rising cost; empty for an exact search."""
        ...

    def size_bytes(self) -> int | None:
        """What the collection takes on disk, with its index; None if the database does not tell."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class Kind(Protocol):
    """The constants and functions of a database's file."""

    # Forms of the address, for messages.
    ADDRESS: str
    # What its client raises where the database, not Lineup, is at fault.
    FAULTS: tuple[type[Exception], ...]
    INDEX_SETTINGS: tuple[str, ...]
    SEARCH_SETTINGS: tuple[str, ...]
    # What to do where even the widest search finds too little.
    DENSER_INDEX: str

    def secrets(self, address: str) -> tuple[str, ...]:
        """What no message may repeat of an address, such as its password."""
        ...

    def connect(self, address: str, name: str) -> Collection:
        """The collection of this name. UserError if the address is not one of `ADDRESS`."""
        ...

    def search_code(self, settings: Settings) -> str:
        """How a service passes settings of a search, in the client's own language."""
        ...


def names() -> list[str]:
    """The names of all databases."""
    return [module.name for module in pkgutil.iter_modules(databases.__path__)]


def kind(name: str) -> Kind:
    """The database of this name.

    Raises:
        UserError: there is none, or its client is not installed.
    """
    if name not in names():
        raise UserError(f"--into: database {name!r} is unknown{suggest(name, names())}")
    try:
        return cast(Kind, importlib.import_module(f"lineup.export.databases.{name}"))
    except ImportError as error:
        raise UserError(
            f"--into {name}: its client cannot be imported ({reason(error)}); "
            f"run `pip install 'lineup[{name}]'`"
        ) from None


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
