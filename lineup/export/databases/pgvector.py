"""pgvector: a table of PostgreSQL, with an HNSW index.

pgvector's `vector` is indexed up to 2,000 dimensions. Beyond, up to 4,000, the index holds half-precision
copies, which pgvector has since 0.7.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import psycopg
from pgvector.psycopg import register_vector
from psycopg import conninfo, sql

from lineup.errors import UserError, reason
from lineup.export import server_address
from lineup.export.database import Photo, Provenance, Settings, Vector
from lineup.search.vectors import Vectors

log = logging.getLogger(__name__)

ADDRESS = "pgvector:postgresql://USER@HOST:PORT/DATABASE"
FAULTS = (psycopg.Error, psycopg.Warning)
INDEX_SETTINGS = ("m", "ef_construction")
SEARCH_SETTINGS = ("ef_search",)
DENSER_INDEX = "build a denser graph: `--index m=32 --index ef_construction=200`"

_CONNECT_SECONDS = 10
_MOST_DIMENSIONS_OF_VECTOR, _MOST_DIMENSIONS_OF_HALFVEC = 2_000, 4_000
_FIRST_WITH_HALFVEC = (0, 7)
_DEFAULT_INDEX = {"m": 16, "ef_construction": 64}
_OPERATORS = {"cosine": ("cosine_ops", sql.SQL("<=>")), "l2": ("l2_ops", sql.SQL("<->"))}
_PHOTOS_PER_FETCH = 10_000


def secrets(address: str) -> tuple[str, ...]:
    """The password before the host, and those of the parameters behind it."""
    pairs = (pair.partition("=") for pair in address.partition("?")[2].split("&"))
    given = [value for name, _, value in pairs if name in ("password", "sslpassword") and value]
    return (*server_address.secrets(address), *given, *map(unquote, given))


def search_code(settings: Settings) -> str:
    """As SQL."""
    return "; ".join(f"SET hnsw.{name} = {value}" for name, value in settings.items())


def connect(address: str, name: str) -> Collection:
    """The table of this name, in the first schema of the connection's search path.

    Raises:
        UserError: the address is wrong, no server answers there, or it has no pgvector.
    """
    try:
        if not address.startswith(("postgresql://", "postgres://")):
            raise ValueError
        server_address.parse(address, ADDRESS)
        parameters = conninfo.conninfo_to_dict(address)
    except (ValueError, psycopg.ProgrammingError):
        # The library's reason may quote a part of the password.
        raise UserError(
            f"--into pgvector: the address is not one of PostgreSQL; write {ADDRESS}, and set PGPASSWORD"
        ) from None
    try:
        connection = psycopg.connect(
            **{"connect_timeout": _CONNECT_SECONDS, "application_name": "lineup", **parameters},  # type: ignore[arg-type]
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        raise UserError(
            f"--into pgvector: no connection ({reason(error)}); start the server, or correct the address"
        ) from None
    connection.add_notice_handler(lambda notice: log.info("%s", notice.message_primary))
    return Collection(connection, name)


class Collection:
    """A table."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._connection, self._name = connection, name
        self._table = sql.Identifier(name)
        self._ef_search: int | None = None
        self._known: Provenance | None = None
        if self._pgvector is not None:
            register_vector(connection)

    @property
    def _pgvector(self) -> str | None:
        """The extension's version; None as long as it is not enabled in this database."""
        return self._value("SELECT extversion FROM pg_extension WHERE extname = 'vector'")

    def _enable(self) -> None:
        """Enables pgvector in this database."""
        if self._value("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'") is None:
            raise UserError(
                "--into pgvector: the server has no pgvector; install its package there, "
                "such as postgresql-16-pgvector"
            )
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self._connection)

    @property
    def version(self) -> str:
        """Of the extension and of the server."""
        number = self._connection.info.server_version
        return f"pgvector {self._pgvector}, PostgreSQL {number // 10_000}.{number % 10_000}"

    def exists(self) -> bool:
        """A view of the name counts, too."""
        return self._value("SELECT to_regclass(%s)::oid", [self._regclass]) is not None

    def provenance(self) -> Provenance | None:
        """From the comment on the table."""
        comment = self._value("SELECT obj_description(to_regclass(%s), 'pg_class')", [self._regclass])
        return Provenance.from_text(comment)

    def check(self, provenance: Provenance) -> None:
        """The extension must be there, and its index take as many dimensions."""
        self._enable()
        most, fix = (
            _MOST_DIMENSIONS_OF_VECTOR,
            "update pgvector to 0.7 or later, whose halfvec goes up to 4,000",
        )
        if self._has_halfvec:
            most, fix = _MOST_DIMENSIONS_OF_HALFVEC, "load a whitening of the row with fewer dimensions"
        if provenance.dim > most:
            raise UserError(
                f"--into pgvector: {provenance.row} has {provenance.dim:,} dimensions, and pgvector "
                f"{self._pgvector} indexes at most {most:,}; {fix}"
            )

    def create(self, provenance: Provenance) -> None:
        """The columns are image_id, label, paths and embedding."""
        self.check(provenance)
        with self._connection.transaction():
            self._connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (image_id text PRIMARY KEY, label text, paths text[] NOT NULL, "
                    "embedding vector({}) NOT NULL)"
                ).format(self._table, sql.Literal(provenance.dim))
            )
            self._connection.execute(
                sql.SQL("COMMENT ON TABLE {} IS {}").format(self._table, sql.Literal(provenance.as_text()))
            )

    def drop(self) -> None:
        """Drops the table; what depends on it, such as a view, makes PostgreSQL refuse."""
        self._known = None
        self._connection.execute(sql.SQL("DROP TABLE {}").format(self._table))

    def photos(self) -> Iterator[Photo]:
        """Through a cursor of the server's."""
        with self._connection.transaction(), self._connection.cursor("photos") as cursor:
            cursor.itersize = _PHOTOS_PER_FETCH
            cursor.execute(sql.SQL("SELECT image_id, label, paths FROM {}").format(self._table))
            for image_id, label, image_paths in cursor:
                yield Photo(image_id, label, tuple(image_paths))

    def add(self, photos: Sequence[Photo], vectors: Vectors) -> None:
        """A binary COPY, which is one transaction."""
        into = sql.SQL("COPY {} (image_id, label, paths, embedding) FROM STDIN WITH (FORMAT BINARY)")
        with self._connection.cursor() as cursor, cursor.copy(into.format(self._table)) as copy:
            copy.set_types(["text", "text", "text[]", "vector"])
            for photo, vector in zip(photos, vectors, strict=True):
                copy.write_row((photo.image_id, photo.label, list(photo.paths), vector))

    def remove(self, image_ids: Sequence[str]) -> None:
        """By the primary key."""
        delete = sql.SQL("DELETE FROM {} WHERE image_id = ANY(%s)").format(self._table)
        self._connection.execute(delete, [list(image_ids)])

    def build_index(self, settings: Settings, changed: bool) -> None:
        """PostgreSQL brings an existing index up to date by itself, so only other settings build it again."""
        wanted, existing = {**_DEFAULT_INDEX, **settings}, self._index_settings()
        if existing is None or (settings and existing != wanted):
            with self._connection.transaction():
                before = self._indexes()
                self._create_index(wanted)
                # Last, since it keeps others from reading the table.
                for schema, index in before:
                    self._connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, index)))
        self._connection.execute(sql.SQL("ANALYZE {}").format(self._table))

    def _create_index(self, settings: Settings) -> None:
        options = (
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in settings.items()
        )
        self._connection.execute(
            sql.SQL("CREATE INDEX ON {} USING hnsw ({} {}) WITH ({})").format(
                self._table,
                sql.SQL("({})").format(self._compared),
                sql.Identifier(f"{self._type}_{_OPERATORS[self._origin.metric][0]}"),
                sql.SQL(", ").join(options),
            )
        )

    def _index_settings(self) -> Settings | None:
        """The settings of the table's HNSW index; None if it has none."""
        row = self._connection.execute(
            "SELECT reloptions FROM pg_class JOIN pg_am ON pg_am.oid = relam JOIN pg_index ON indexrelid = "
            "pg_class.oid WHERE amname = 'hnsw' AND indrelid = to_regclass(%s) AND indisvalid",
            [self._regclass],
        ).fetchone()
        if row is None:
            return None
        options = dict(option.split("=", 1) for option in row[0] or ())
        return {**_DEFAULT_INDEX, **{name: int(value) for name, value in options.items()}}

    def _indexes(self) -> list[tuple[str, str]]:
        """The schema and the name of each HNSW index of the table."""
        return self._connection.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "JOIN pg_am ON pg_am.oid = relam JOIN pg_index ON indexrelid = pg_class.oid "
            "WHERE amname = 'hnsw' AND indrelid = to_regclass(%s)",
            [self._regclass],
        ).fetchall()

    def index(self) -> str:
        """With its settings, unless PostgreSQL's planner does without it."""
        settings = self._index_settings()
        if settings is None:
            return "none: every vector is compared"
        words = ", ".join(["HNSW", *(f"{name}={value}" for name, value in settings.items())])
        if self._type == "halfvec":
            words += ", of half precision"
        if self._is_used():
            return words
        return f"{words}; PostgreSQL reads the whole table instead, which it estimates to be as fast"

    def _is_used(self) -> bool:
        """Whether the plan of a query for ten photos reads the index."""
        vector = sql.Literal("[" + ",".join(["1"] * self._origin.dim) + "]")
        plan = self._value(sql.SQL("EXPLAIN (FORMAT JSON) ") + self._query(vector, 10))
        return '"Index Scan"' in (plan if isinstance(plan, str) else json.dumps(plan))

    def nearest(self, vector: Vector, k: int, settings: Settings) -> list[str]:
        """Planned for its k each time: a plan for any k would leave the index aside."""
        if settings.get("ef_search") != self._ef_search:
            self._ef_search = settings.get("ef_search")
            self._connection.execute(
                "RESET hnsw.ef_search"
                if self._ef_search is None
                else sql.SQL("SET hnsw.ef_search = {}").format(sql.Literal(self._ef_search))
            )
        rows = self._connection.execute(
            self._query(sql.Placeholder(), k), [vector], prepare=False, binary=True
        )
        return [image_id for (image_id,) in rows]

    def _query(self, vector: sql.Composable, k: int) -> sql.Composed:
        return sql.SQL("SELECT image_id FROM {} ORDER BY {} {} {}::{} LIMIT {}").format(
            self._table,
            self._compared,
            _OPERATORS[self._origin.metric][1],
            vector,
            sql.SQL("{}({})").format(sql.Identifier(self._type), sql.Literal(self._origin.dim)),
            sql.Literal(k),
        )

    def wider(self) -> Iterable[Settings]:
        """Up to pgvector's limit of 1,000."""
        if self._index_settings() is None or not self._is_used():
            return []
        return [{"ef_search": candidates} for candidates in (100, 200, 400, 1_000)]

    def size_bytes(self) -> int:
        """Of the table, its large values and its indexes."""
        return int(self._value("SELECT pg_total_relation_size(to_regclass(%s))", [self._regclass]))

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    @property
    def _regclass(self) -> str:
        """The table's name as PostgreSQL reads one."""
        return self._table.as_string(self._connection)

    @property
    def _has_halfvec(self) -> bool:
        return tuple(int(part) for part in str(self._pgvector).split(".")[:2]) >= _FIRST_WITH_HALFVEC

    @property
    def _origin(self) -> Provenance:
        if self._known is None:
            self._known = self.provenance()
        assert self._known is not None, "only collections of Lineup's are searched"
        return self._known

    @property
    def _type(self) -> str:
        """What the index compares."""
        return "vector" if self._origin.dim <= _MOST_DIMENSIONS_OF_VECTOR else "halfvec"

    @property
    def _compared(self) -> sql.Composable:
        """The column as the index compares it."""
        if self._type == "vector":
            return sql.Identifier("embedding")
        return sql.SQL("(embedding::halfvec({}))").format(sql.Literal(self._origin.dim))

    def _value(self, query: Any, parameters: Sequence[object] | None = None) -> Any:
        """The first column of the first line; None if there is no line."""
        row = self._connection.execute(query, parameters).fetchone()
        return row and row[0]
