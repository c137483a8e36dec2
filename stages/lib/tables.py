"""The tables that rooms hand over: schemas, the one Parquet writer, the one CSV writer, readers that stream.

The same rows give the same bytes: rows sorted by id, fixed schemas, no pandas metadata, pinned pyarrow.
Nothing is ever half-written: a file or folder appears under its name by a rename.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from stages.lib.errors import UserError, naming

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),  # SHA-256 of the file's bytes
        ("split", pa.string()),  # train | query | gallery
        ("label", pa.string()),  # null: unknown
        ("paths", pa.list_(pa.string())),  # every file with these bytes in this split, relative to data/raw, sorted
        ("pixels_id", pa.string()),  # SHA-256 of the upright RGB pixels and their size
        ("width", pa.int32()),  # upright, before shrinking
        ("height", pa.int32()),
        ("format", pa.string()),  # as the content says: JPEG, PNG, ...
    ]
)
_PREPARED_ID = ("prepared_id", pa.string())  # SHA-256 of the bytes stored in the place of a file's own; null where it is kept as it is
IMAGES = pa.schema([("image_id", pa.string()), ("split", pa.string()), _PREPARED_ID, ("image", pa.binary())])
# Its file's metadata has, where there is a qrels.csv, the number of its judgements, and how many of them are left out.
QRELS = pa.schema([("query_id", pa.string()), ("gallery_id", pa.string()), ("relevance", pa.int8())])
RANKING = pa.schema(
    [
        ("query_id", pa.string()),
        ("gallery_ids", pa.list_(pa.string())),  # nearest first
        ("scores", pa.list_(pa.float32())),  # higher is nearer: cosine similarity, or minus the squared L2 distance
    ]
)

IMAGES_PER_SHARD = 1_000
VECTORS_PER_SHARD = 65_536
ROWS_AT_ONCE = 65_536  # of a table that may be long
_ROWS_PER_PIECE = 1_024  # Parquet's pages end at a multiple of it, so that such pieces give the bytes of the whole
_ROWS_PER_GROUP = {"image": 64, "embedding": 1_024}  # what a reader holds at once: some megabytes of either
_MEND = "run `dvc checkout --force`, or `dvc repro` once it's removed"
_DICTIONARY_BYTES = 256 * 2**20  # ids of a ranking repeat; keep them in one dictionary however large the gallery


def embeddings_schema(dim: int) -> pa.Schema:
    return pa.schema([("image_id", pa.string()), ("split", pa.string()), _PREPARED_ID, ("embedding", pa.list_(pa.float32(), dim))])


@dataclass(frozen=True)
class Embeddings:
    """ids: str [N], sorted; vectors: float32 [N, D], un-normalised."""

    ids: npt.NDArray[np.str_]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ranking:
    """The nearest gallery images of each query, nearest first.

    query_ids: str [Q], sorted; gallery_ids: str [G], sorted: those that were found, at least;
    positions: int [Q, K] into gallery_ids, K at least 1, -1 behind a ranking's end; scores: float32 [Q, K], NaN there.
    """

    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.str_]
    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def replace_atomically(path: Path, write: Any) -> None:
    """Calls write(temporary path) and renames the file or folder it made to `path`, which an OSError of the disk names."""
    temporary, former = (path.with_name(f".{path.name}.{part}{os.getpid()}.tmp") for part in ("", "former."))
    try:
        with naming(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent, path.name)
            _remove(temporary)
            write(temporary)
            if temporary.is_dir() and os.path.lexists(path):
                # A folder can't be renamed over a full one, and must not be seen half removed.
                path.rename(former)
            temporary.replace(path)
    finally:
        if os.path.lexists(former) and not os.path.lexists(path):
            former.rename(path)
        with suppress(OSError):  # a disk that fails has been told above; the next run removes what is left
            _remove(temporary)
            _remove(former)


def remove_folder(folder: Path) -> None:
    """Out of sight by one rename first: no process ever sees half of a folder."""
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left half-written in a folder, of one file or of all."""
    for left in folder.glob(f".{glob.escape(name) if name else '*'}.*.tmp"):
        if not _is_running(left.name.split(".")[-2]):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    """Not so of a zombie, which is left where nobody takes a killed process's exit status, nor of a thread's number."""
    try:
        return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.AccessDenied:  # another user's
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def write_text(path: Path, text: str) -> None:
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        with naming(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`, or `dvc pull` it") from None
    except ValueError:
        raise UserError(f"{path}: is damaged; {_MEND}") from None


# A spreadsheet computes a cell that begins so, and looks past spaces; quotes before it are our own, or were there already.
_FORMULA = r"'*[ \t\r\n]*[=+\-@＝＋－＠]|'*[\t\r\n]"  # noqa: RUF001
_NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"
_WITHOUT_QUOTE = pc.ReplaceSubstringOptions(rf"^'({_FORMULA})", r"\1")
_is_formula, _is_number = re.compile(_FORMULA).match, re.compile(_NUMBER, re.ASCII).fullmatch


@dataclass(frozen=True)
class _Lines:
    """Ends lines with LF that csv ends with CR LF: so it quotes a CR inside a cell, too."""

    stream: TextIO

    def write(self, line: str) -> None:
        self.stream.write(line.removesuffix("\r\n") + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One CSV file, safe to open in a spreadsheet: a text that would be computed there gets a single quote in front.

    Numbers stay numbers, whether given as such or as text; None is an empty cell. `read_csv` gives the texts back as they were.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            _write_cells(stream, header, rows)

    replace_atomically(path, write)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """What `write_csv` writes."""
    out = io.StringIO(newline="")
    _write_cells(out, header, rows)
    return out.getvalue()


def _write_cells(stream: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(_Lines(stream), lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(map(_inert, row) for row in rows)


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) and not _is_number(cell) else cell


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote. UserError if it isn't there or is damaged."""
    try:
        with naming(path), path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
            return [dict(zip(header, map(_original, row), strict=True)) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; run `dvc repro`, or `dvc pull` it") from None
    except (ValueError, csv.Error):
        raise UserError(f"{path}: is damaged; {_MEND}") from None


def _original(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def read_csv_columns(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Some columns of a file that `write_csv` wrote, fast; an empty number is null.

    FileNotFoundError if it isn't there; pa.ArrowInvalid or pa.ArrowKeyError if it holds others.
    """
    convert = pa_csv.ConvertOptions(include_columns=[*columns], column_types=dict(columns), strings_can_be_null=False)
    table = pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=convert)
    for number, (name, kind) in enumerate(columns.items()):
        if kind == pa.string():
            original = pc.call_function("replace_substring_regex", [table.column(name)], _WITHOUT_QUOTE)
            table = table.set_column(number, name, original)
    return table


def write_table(path: Path, table: pa.Table, metadata: dict[str, str] | None = None) -> None:
    """One Parquet file."""
    plain = table.replace_schema_metadata(metadata)
    replace_atomically(path, lambda temporary: pq.write_table(plain, temporary, row_group_size=2**20, **_options(plain.schema)))


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Sequence[object]], metadata: dict[str, str] | None = None) -> None:
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
    return pa.record_batch([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema)


def _whole_lists(table: pa.Table) -> pa.Table:
    """Their pages don't end where pieces do; to join the other columns as well would hold the table twice."""
    columns = [column.combine_chunks() if pa.types.is_list(column.type) else column for column in table.columns]
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
    return f"{field.name}.list.element" if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type) else field.name


def shard_digits(rows: int, rows_per_shard: int) -> int:
    """Hex digits of the id by which a folder is split; follows from the number of rows alone."""
    digits = 0
    while rows > rows_per_shard * 16**digits:
        digits += 1
    return digits


def write_shards(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], rows: int, rows_per_shard: int, metadata: dict[str, str] | None = None
) -> None:
    """A folder of Parquet files, split by the id's first hex digits; holds one row group in memory.

    batches: sorted by image_id, `rows` rows in all. The folder has at least one file, so an empty one has a schema.
    """
    digits = shard_digits(rows, rows_per_shard)

    def write(folder: Path) -> None:
        folder.mkdir()
        written = 0
        for prefix, parts in groupby(_by_prefix(batches, digits), key=itemgetter(0)):
            written += _write_shard(folder / f"{prefix or 'all'}.parquet", schema, (part for _, part in parts), metadata)
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


def _write_shard(path: Path, schema: pa.Schema, parts: Iterable[pa.RecordBatch], metadata: dict[str, str] | None) -> int:
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


def read_shards(folder: Path, columns: list[str] | None = None, batch_rows: int = 1_024) -> Iterator[pa.RecordBatch]:
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
        raise UserError(f"{file}: is damaged; {_MEND}") from None


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


@dataclass(frozen=True)
class Origin:
    """Whose vectors a folder of embeddings holds, as its files say: of which row, under which fingerprint, by which weights.

    fingerprint: of what a whitening projects; None, as weights, where the files don't say.
    """

    row: str
    fingerprint: str | None
    weights_sha256: str | None

    def metadata(self) -> dict[str, str]:
        told = {"model": self.row, "fingerprint": self.fingerprint, "weights_sha256": self.weights_sha256}
        return {name: value for name, value in told.items() if value is not None}


def origin(folder: Path) -> Origin:
    """UserError if a row's folder of embeddings is not there, or its files say that they are another row's.

    What comes out of a shared cache is the row's only if it says so itself.
    """
    told = Origin("", None, None)
    for file in shards(folder):
        metadata = {name.decode(): value.decode(errors="replace") for name, value in (read_schema(file).metadata or {}).items()}
        told = Origin(metadata.get("model", ""), metadata.get("fingerprint"), metadata.get("weights_sha256"))
        if told.row != folder.name:
            stage = folder.parent.name.replace("embeddings", "embed")
            raise UserError(
                f"{file}: says that it holds vectors of row {told.row!r}, not of {folder.name!r}; "
                f"run `dvc repro -f -s {stage}@{folder.name}` (refine@ for a refinement), then `dvc repro`"
            )
    return told


def read_vectors(folder: Path, columns: list[str] | None = None, batch_rows: int = 8_192) -> Iterator[pa.RecordBatch]:
    """A row's embeddings in the order of their ids, as `read_shards`. UserError if they are another row's."""
    origin(folder)
    yield from read_shards(folder, columns, batch_rows)


def read_embeddings(folder: Path, split: str) -> Embeddings:
    """The vectors of one split ("query" or "gallery"); an empty one gives [0, D]."""
    dim = read_schema(shards(folder)[0]).field("embedding").type.list_size
    ids: list[str] = []
    vectors = [np.empty((0, dim), np.float32)]
    for batch in read_vectors(folder):
        some_ids, some_vectors = ids_and_vectors(batch.filter(pc.field("split") == split) if batch.num_rows else batch)
        ids.extend(some_ids)
        vectors.append(some_vectors)
    return Embeddings(np.array(ids, dtype=np.str_), np.concatenate(vectors))


def vectors_of(column: pa.FixedSizeListArray) -> npt.NDArray[np.float32]:
    """fixed_size_list<float32>[D] of N rows -> float32 [N, D]."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def ids_and_vectors(rows: pa.RecordBatch) -> tuple[list[str], npt.NDArray[np.float32]]:
    """N rows of embeddings -> their ids, and float32 [N, D]."""
    return rows.column("image_id").to_pylist(), vectors_of(rows.column("embedding"))


def embeddings_batch(images: pa.RecordBatch, vectors: npt.NDArray[np.float32]) -> pa.RecordBatch:
    """images: N rows with image_id, split and prepared_id; vectors: float32 [N, D], theirs."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    known = [images.column(name).cast(pa.string()) for name in ("image_id", "split", "prepared_id")]
    return pa.record_batch([*known, lists], schema=embeddings_schema(vectors.shape[1]))


_IDS_AT_ONCE = 2**24  # an array of texts holds 2 GiB, which 2^25 ids of 64 characters fill


def write_ranking(path: Path, ranking: Ranking) -> None:
    """The file says whose it is: the row that it's named after."""
    step = max(1, _IDS_AT_ONCE // max(1, ranking.positions.shape[1]))
    names = pa.array(ranking.gallery_ids.tolist(), pa.string())
    starts = range(0, max(1, len(ranking.query_ids)), step)
    whole = pa.concat_tables(_some_rankings(ranking, names, slice(start, start + step)) for start in starts)
    write_table(path, whole, {"row": path.stem})


def _some_rankings(ranking: Ranking, names: pa.StringArray, queries: slice) -> pa.Table:
    positions, scores = ranking.positions[queries], ranking.scores[queries]
    kept = positions >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]), pa.int32())
    return pa.table(
        {
            "query_id": pa.array(ranking.query_ids[queries], pa.string()),
            "gallery_ids": pa.ListArray.from_arrays(offsets, names.take(pa.array(positions[kept]))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[kept], pa.float32())),
        },
        schema=RANKING,
    )


def read_ranking(path: Path) -> Ranking:
    """`gallery_ids` holds the ids that occur in the rankings. UserError if the file says that it is another row's."""
    table = read_table(path, read_dictionary=["gallery_ids.list.element"]).combine_chunks()
    row = (table.schema.metadata or {}).get(b"row", b"").decode(errors="replace")
    if row != path.stem:
        raise UserError(
            f"{path}: says that it is the ranking of row {row!r}, not of {path.stem!r}; run `dvc repro -f -s retrieve@{path.stem}` "
            "(refine@ for a refinement), then `dvc repro`"
        )
    lists = table.column("gallery_ids").combine_chunks()
    lengths = pc.call_function("list_value_length", [lists]).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = lists.flatten().unify_dictionaries() if isinstance(lists, pa.ChunkedArray) else lists.flatten()
    if not pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_encode()
    names = np.array(flat.dictionary.to_pylist(), dtype=np.str_)
    order = np.argsort(names, kind="stable")
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    depth = max(1, int(lengths.max(initial=0)))
    kept = np.arange(depth) < lengths[:, None]
    positions = np.full((len(lengths), depth), -1, np.int64)
    scores = np.full((len(lengths), depth), np.nan, np.float32)
    positions[kept] = place[flat.indices.to_numpy(zero_copy_only=False)] if len(names) else 0
    scores[kept] = table.column("scores").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Ranking(np.array(table.column("query_id").to_pylist(), dtype=np.str_), names[order], positions, scores)
