"""The relevance of prepared test photos, from their manifest and from the judgements of qrels.csv."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.relevance.relevance import IntArray, Relevance
from lineup.settings.sections import Exclude
from lineup.storage import parquet

COLUMNS = ["image_id", "split", "label", "pixels_id"]  # the columns of schemas.MANIFEST that are read
_IDS_CONVERTED_AT_ONCE = 65_536


def load_relevance(exclude: Exclude) -> Relevance:
    """The relevance of the prepared test photos.

    Raises:
        UserError: nothing is prepared, or there are no queries or no gallery.
    """
    manifest = parquet.read_table(paths.manifest("test"), columns=COLUMNS)
    return read_relevance(manifest, parquet.read_table(paths.QRELS), exclude)


def read_relevance(manifest: pa.Table, qrels: pa.Table, exclude: Exclude) -> Relevance:
    """The relevance of the images of a manifest.

    Args:
        manifest: schemas.MANIFEST, at least COLUMNS.
        qrels: schemas.QRELS, without rows where nothing was judged.
        exclude: what counts as the query itself, see `Relevance`.
    Raises:
        UserError: there are no queries or no gallery.
    """
    queries, gallery = _split(manifest, "query"), _split(manifest, "gallery")
    codes = pa.chunked_array([queries.labels, gallery.labels]).combine_chunks().dictionary_encode().indices
    query_labels, gallery_labels = np.split(
        codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), [len(queries.ids)]
    )
    judged = np.column_stack(
        [
            _positions(queries.ids, qrels.column("query_id")),
            _positions(gallery.ids, qrels.column("gallery_id")),
            qrels.column("relevance").to_numpy(),
        ]
    ).astype(np.int64)
    return Relevance(
        source="qrels" if qrels.num_rows else "labels" if (query_labels >= 0).any() else "none",
        query_ids=queries.ids.astype(np.str_),
        gallery_ids=gallery.ids,
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        judged=judged[(judged[:, :2] >= 0).all(axis=1)],
        copies=_copies(queries, gallery),
        exclude=exclude,
    )


def qrels_lines(qrels: pa.Table) -> dict[str, int] | None:
    """How many lines qrels.csv had, each a judgement, from the metadata of schemas.QRELS.

    Returns:
        {"lines": all of them, "left_out": those about photos that cannot be read}; None without the file.
    """
    counted = qrels.schema.metadata or {}
    if b"judgements" not in counted:
        return None
    return {"lines": int(counted[b"judgements"]), "left_out": int(counted[b"left_out"])}


class _Split(NamedTuple):
    """The images of a split, sorted by id."""

    ids: npt.NDArray[np.bytes_]  # ASCII, [N]
    labels: pa.Array
    pixels: pa.ChunkedArray


def _split(manifest: pa.Table, split: str) -> _Split:
    rows = manifest.filter(pc.field("split") == split)
    if rows.num_rows == 0:
        raise UserError(
            f"data/raw/test/{split}: holds no image that can be read; "
            "put at least one there and run `dvc repro`"
        )
    ids = _ascii(rows.column("image_id"))
    assert (ids[1:] > ids[:-1]).all(), "manifests are sorted, one row per image and split"
    return _Split(ids, rows.column("label").combine_chunks(), rows.column("pixels_id"))


def _copies(queries: _Split, gallery: _Split) -> IntArray:
    """Pairs with the same pixels in other bytes: int [C, 2] of (query, gallery image), sorted."""
    query_pixels = queries.pixels.combine_chunks().dictionary_encode()
    gallery_pixels = pc.call_function(
        "index_in", [gallery.pixels], pc.SetLookupOptions(query_pixels.dictionary)
    ).combine_chunks()
    # The gallery images with a query's pixels: few, unless the whole gallery was copied.
    copied = np.flatnonzero(gallery_pixels.is_valid().to_numpy(zero_copy_only=False))
    gallery_codes = gallery_pixels.take(pa.array(copied)).to_numpy()
    query_codes = query_pixels.indices.to_numpy()
    by_code = np.argsort(query_codes, kind="stable")
    first, end = (np.searchsorted(query_codes[by_code], gallery_codes, side) for side in ("left", "right"))
    pairs = [
        (q, g) for g, a, b in zip(copied.tolist(), first, end, strict=True) for q in by_code[a:b].tolist()
    ]
    pairs = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return pairs[queries.ids[pairs[:, 0]] != gallery.ids[pairs[:, 1]]]


def _ascii(column: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """The column's texts as bytes, [N].

    They are converted in parts: a list of a million strings would take as much memory again, and fragment it.
    """
    longest = pc.call_function("max", [pc.call_function("binary_length", [column])]).as_py() or 1
    ids = np.empty(len(column), f"S{longest}")
    for start in range(0, len(ids), _IDS_CONVERTED_AT_ONCE):
        part = column.slice(start, _IDS_CONVERTED_AT_ONCE)
        ids[start : start + _IDS_CONVERTED_AT_ONCE] = part.to_pylist()
    return ids


def _positions(ids: npt.NDArray[np.bytes_], column: pa.ChunkedArray) -> IntArray:
    """The position of each value of the column in the sorted ids, -1 if it is not among them: int [N]."""
    values = _ascii(column)
    positions = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[positions] == values, positions, -1)
