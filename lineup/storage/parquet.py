"""The one writer of Parquet files, and readers that stream.

The same rows give the same bytes: rows sorted by id, fixed schemas, no pandas metadata, pinned pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lineup.errors import UserError, naming
from lineup.storage.files import REPAIR, missing, replace_atomically

# Rows of a long table that are in memory at once.
ROWS_AT_ONCE = 65_536

# Parquet's pages end at a multiple of it, so a table written in pieces has the bytes of one written whole.
_ROWS_PER_PIECE = 1_024

# A reader holds one group at once: some megabytes, of images as of embeddings.
_ROWS_PER_GROUP = {"image": 64, "embedding": 1_024}

# The ids of a ranking repeat. They stay in one dictionary, however large the gallery.
_DICTIONARY_BYTES = 256 * 2**20


def write_table(path: Path, table: pa.Table, metadata: dict[str, str] | None = None) -> None:
    """Writes one Parquet file."""
    plain = table.replace_schema_metadata(metadata)
    replace_atomically(
        path,
        lambda temporary: pq.write_table(plain, temporary, row_group_size=2**20, **_options(plain.schema)),
    )


def write_rows(
    path: Path, schema: pa.Schema, rows: Iterable[Sequence[object]], metadata: dict[str, str] | None = None
) -> None:
    """Writes one Parquet file of rows that come one at a time; one row group is in memory.

    A table of at most ROWS_AT_ONCE rows has the same bytes as from `write_table`.

    Args:
        rows: values in the schema's order.
    """
    source = iter(rows)
    batches = iter(lambda: list(islice(source, _ROWS_PER_PIECE)), [])
    pieces = (record_batch(batch, schema) for batch in batches)
    groups = iter(lambda: list(islice(pieces, ROWS_AT_ONCE // _ROWS_PER_PIECE)), [])

    def write(temporary: Path) -> None:
        described = schema.with_metadata(metadata) if metadata else schema
        with pq.ParquetWriter(temporary, described, **_options(schema)) as writer:
            for group in chain([next(groups, [])], groups):  # A table without rows has a group, too.
                writer.write_table(_whole_lists(pa.Table.from_batches(group, schema)))

    replace_atomically(path, write)


def record_batch(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    """A batch of rows, at least one, whose values are in the schema's order."""
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema
    )


def _whole_lists(table: pa.Table) -> pa.Table:
    """The table with each column of lists in one piece, since pages of lists do not end where pieces do.

    The other columns stay in pieces: joining them as well would hold the table in memory twice.
    """
    columns = [
        column.combine_chunks() if pa.types.is_list(column.type) else column for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _plain(schema: pa.Schema) -> list[str]:
    """The columns of images and vectors, which are stored uncompressed, as they hardly shrink."""
    return [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_fixed_size_list(f.type)]


def _options(schema: pa.Schema) -> dict[str, Any]:
    plain, dictionary = _plain(schema), {"gallery_ids.list.element", "split", "label"}
    return {
        "use_dictionary": [leaf for f in schema if (leaf := _leaf(f)) in dictionary],
        "compression": {_leaf(f): "NONE" if f.name in plain else "ZSTD" for f in schema},
        "dictionary_pagesize_limit": _DICTIONARY_BYTES,
        "write_statistics": ["image_id"] if "image_id" in schema.names else False,
    }


def _leaf(field: pa.Field) -> str:
    """The path inside the Parquet file of a column's values."""
    return (
        f"{field.name}.list.element"
        if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
        else field.name
    )


def shard_digits(rows: int, rows_per_shard: int) -> int:
    """How many hex digits of the id a folder is split by; this follows from the number of rows alone."""
    digits = 0
    while rows > rows_per_shard * 16**digits:
        digits += 1
    return digits


def write_shards(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    rows: int,
    rows_per_shard: int,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes a folder of Parquet files, split by the id's first hex digits; one row group is in memory.

    The folder has at least one file, so that an empty one has a schema, too.

    Args:
        batches: sorted by image_id.
        rows: how many rows the batches have in all.
        rows_per_shard: the most that one file should have.
    """
    digits = shard_digits(rows, rows_per_shard)

    def write(folder: Path) -> None:
        folder.mkdir()
        written = 0
        for prefix, parts in groupby(_by_prefix(batches, digits), key=itemgetter(0)):
            written += _write_shard(
                folder / f"{prefix or 'all'}.parquet", schema, (part for _, part in parts), metadata
            )
        assert written == rows, f"the batches had {written} rows, not {rows}"
        if not rows:
            _write_shard(folder / "all.parquet", schema, [], metadata)

    replace_atomically(path, write)


def _by_prefix(batches: Iterable[pa.RecordBatch], digits: int) -> Iterator[tuple[str, pa.RecordBatch]]:
    """(prefix, rows): the batches, cut where the first digits of the ids change."""
    last = ""
    for batch in batches:
        ids = batch.column("image_id").to_pylist()
        assert all(a <= b for a, b in pairwise([last, *ids])), "rows must be sorted by image_id"
        last, start = (ids[-1] if ids else last), 0
        for prefix, same in groupby(ids, key=lambda image_id: image_id[:digits]):
            yield prefix, batch.slice(start, size := sum(1 for _ in same))
            start += size


def _write_shard(
    path: Path, schema: pa.Schema, parts: Iterable[pa.RecordBatch], metadata: dict[str, str] | None
) -> int:
    """Returns the number of rows written."""
    size = next(_ROWS_PER_GROUP[name] for name in schema.names if name in _ROWS_PER_GROUP)
    described, written = schema.with_metadata(metadata) if metadata else schema, 0
    with pq.ParquetWriter(path, described, **_options(schema)) as writer:
        for group in _regrouped(parts, size):
            writer.write_table(pa.Table.from_batches(group).combine_chunks().cast(described))
            written += sum(part.num_rows for part in group)
        if not written:  # A table without rows has a group, too.
            writer.write_table(described.empty_table())
    return written


def _regrouped(parts: Iterable[pa.RecordBatch], size: int) -> Iterator[list[pa.RecordBatch]]:
    """The same rows, `size` at a time; the last group may have fewer."""
    group, missing_rows = list[pa.RecordBatch](), size
    for part in parts:
        start = 0
        while start < part.num_rows:
            group.append(part.slice(start, missing_rows))
            start += group[-1].num_rows
            missing_rows -= group[-1].num_rows
            if missing_rows == 0:
                yield group
                group, missing_rows = [], size
    if group:
        yield group


def shards(folder: Path) -> list[Path]:
    """A folder's files in the order of their ids. Raises UserError if it does not exist."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise missing(folder)
    return files


def read_shards(
    folder: Path, columns: list[str] | None = None, batch_rows: int = 1_024
) -> Iterator[pa.RecordBatch]:
    """A folder's rows in the order of their ids; at most one row group is in memory."""
    for file in shards(folder):
        yield from read_shard(file, columns, batch_rows)


def read_shard(file: Path, columns: list[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """As `read_shards`, of one file."""
    with intact(file), pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(batch_size=batch_rows, columns=columns)


@contextmanager
def intact(file: Path) -> Iterator[None]:
    """Raises UserError if pyarrow finds the file damaged."""
    try:
        with naming(file):
            yield
    except FileNotFoundError:  # pyarrow may raise this one without a number.
        raise
    except (pa.ArrowInvalid, OSError) as error:  # pyarrow's errors of content have no number.
        if (isinstance(error, OSError) and error.errno is not None) or "No match for FieldRef" in str(error):
            raise
        raise UserError(f"{file}: is damaged; {REPAIR}") from None


def read_schema(file: Path) -> pa.Schema:
    """The schema of a file. Raises UserError if the file is damaged."""
    with intact(file):
        return pq.read_schema(file)


def count_rows(folder: Path) -> int:
    """The number of rows of a folder of shards. Raises UserError if a file is damaged."""
    rows = 0
    for file in shards(folder):
        with intact(file):
            rows += pq.read_metadata(file).num_rows
    return rows


def read_table(path: Path, **options: Any) -> pa.Table:
    """A file's or folder's table.

    Args:
        options: of pyarrow.parquet.read_table.
    Raises:
        UserError: it does not exist, or is damaged.
    """
    try:
        with intact(path):
            return pq.read_table(path, **options)
    except FileNotFoundError:
        raise missing(path) from None
