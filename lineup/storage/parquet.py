"""The one Parquet writer, and readers that stream.

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
from lineup.storage.files import REPAIR, replace_atomically

ROWS_AT_ONCE = 65_536  # of a table that may be long

_ROWS_PER_PIECE = (
    1_024  # Parquet's pages end at a multiple of it, so that such pieces give the bytes of the whole
)

_ROWS_PER_GROUP = {"image": 64, "embedding": 1_024}  # what a reader holds at once: some megabytes of either

_DICTIONARY_BYTES = (
    256 * 2**20
)  # ids of a ranking repeat; keep them in one dictionary however large the gallery


def write_table(path: Path, table: pa.Table, metadata: dict[str, str] | None = None) -> None:
    """One Parquet file."""
    plain = table.replace_schema_metadata(metadata)
    replace_atomically(
        path,
        lambda temporary: pq.write_table(plain, temporary, row_group_size=2**20, **_options(plain.schema)),
    )


def write_rows(
    path: Path, schema: pa.Schema, rows: Iterable[Sequence[object]], metadata: dict[str, str] | None = None
) -> None:
    """One Parquet file of rows that come one at a time, values in the schema's order; holds one row group.

    Up to ROWS_AT_ONCE rows the bytes are those of `write_table`.
    """
    source = iter(rows)
    pieces = (record_batch(some, schema) for some in iter(lambda: list(islice(source, _ROWS_PER_PIECE)), []))
    groups = iter(lambda: list(islice(pieces, ROWS_AT_ONCE // _ROWS_PER_PIECE)), [])

    def write(temporary: Path) -> None:
        described = schema.with_metadata(metadata) if metadata else schema
        with pq.ParquetWriter(temporary, described, **_options(schema)) as writer:
            for group in chain([next(groups, [])], groups):  # a table without rows has a group, too
                writer.write_table(_whole_lists(pa.Table.from_batches(group, schema)))

    replace_atomically(path, write)


def record_batch(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows, at least one, of values in the schema's order."""
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema
    )


def _whole_lists(table: pa.Table) -> pa.Table:
    """Their pages don't end where pieces do; to join the other columns as well would hold the table twice."""
    columns = [
        column.combine_chunks() if pa.types.is_list(column.type) else column for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _plain(schema: pa.Schema) -> list[str]:
    """Columns of images and vectors, which are stored as they are: they don't compress."""
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
    """The Parquet path of a column's values."""
    return (
        f"{field.name}.list.element"
        if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
        else field.name
    )


def shard_digits(rows: int, rows_per_shard: int) -> int:
    """Hex digits of the id by which a folder is split; follows from the number of rows alone."""
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
    """A folder of Parquet files, split by the id's first hex digits; holds one row group in memory.

    batches: sorted by image_id, `rows` rows in all. The folder has at least one file, so an empty one has a
        schema.
    """
    digits = shard_digits(rows, rows_per_shard)

    def write(folder: Path) -> None:
        folder.mkdir()
        written = 0
        for prefix, parts in groupby(_by_prefix(batches, digits), key=itemgetter(0)):
            written += _write_shard(
                folder / f"{prefix or 'all'}.parquet", schema, (part for _, part in parts), metadata
            )
        assert written == rows, f"{written} rows came, {rows} were announced"
        if not rows:
            _write_shard(folder / "all.parquet", schema, [], metadata)

    replace_atomically(path, write)


def _by_prefix(batches: Iterable[pa.RecordBatch], digits: int) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The batches, cut where the ids' first digits change."""
    last = ""
    for batch in batches:
        ids = batch.column("image_id").to_pylist()
        assert all(a <= b for a, b in pairwise([last, *ids])), "rows must come sorted by image_id"
        last, start = (ids[-1] if ids else last), 0
        for prefix, same in groupby(ids, key=lambda image_id: image_id[:digits]):
            yield prefix, batch.slice(start, size := sum(1 for _ in same))
            start += size


def _write_shard(
    path: Path, schema: pa.Schema, parts: Iterable[pa.RecordBatch], metadata: dict[str, str] | None
) -> int:
    """How many rows came."""
    size = next(_ROWS_PER_GROUP[name] for name in schema.names if name in _ROWS_PER_GROUP)
    described, written = schema.with_metadata(metadata) if metadata else schema, 0
    with pq.ParquetWriter(path, described, **_options(schema)) as writer:
        for group in _regrouped(parts, size):
            writer.write_table(pa.Table.from_batches(group).combine_chunks().cast(described))
            written += sum(part.num_rows for part in group)
        if not written:  # a table without rows has a group, too
            writer.write_table(described.empty_table())
    return written


def _regrouped(parts: Iterable[pa.RecordBatch], size: int) -> Iterator[list[pa.RecordBatch]]:
    """The same rows, `size` at a time; fewer in the last one."""
    group, room = list[pa.RecordBatch](), size
    for part in parts:
        start = 0
        while start < part.num_rows:
            group.append(part.slice(start, room))
            start, room = start + group[-1].num_rows, room - group[-1].num_rows
            if room == 0:
                yield group
                group, room = [], size
    if group:
        yield group


def shards(folder: Path) -> list[Path]:
    """A folder's files in the order of their ids. UserError if it isn't there."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{folder}: is not there; run `dvc repro`, or `dvc pull` it")
    return files


def read_shards(
    folder: Path, columns: list[str] | None = None, batch_rows: int = 1_024
) -> Iterator[pa.RecordBatch]:
    """A folder's rows in the order of their ids; never more than one row group in memory."""
    for file in shards(folder):
        yield from read_shard(file, columns, batch_rows)


def read_shard(file: Path, columns: list[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    with _intact(file), pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(batch_size=batch_rows, columns=columns)


@contextmanager
def _intact(file: Path) -> Iterator[None]:
    try:
        with naming(file):
            yield
    except FileNotFoundError:  # pyarrow raises this one without a number, too
        raise
    except (pa.ArrowInvalid, OSError) as error:  # pyarrow's own, which have no number
        if (isinstance(error, OSError) and error.errno is not None) or "No match for FieldRef" in str(error):
            raise
        raise UserError(f"{file}: is damaged; {REPAIR}") from None


def read_schema(file: Path) -> pa.Schema:
    with _intact(file):
        return pq.read_schema(file)


def count_rows(folder: Path) -> int:
    rows = 0
    for file in shards(folder):
        with _intact(file):
            rows += pq.read_metadata(file).num_rows
    return rows


def read_table(path: Path, **options: Any) -> pa.Table:
    try:
        with _intact(path):
            return pq.read_table(path, **options)
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`, or `dvc pull` it") from None
