"""Which gallery images answer which query: by the user's judgements (qrels) where there are any, else by
labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.settings.params import Exclude
from lineup.storage import parquet, rankings

Ints = npt.NDArray[np.int64]
COLUMNS = ["image_id", "split", "label", "pixels_id"]  # of schemas.MANIFEST


def _no_pairs() -> Ints:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Relevance:
    """Images are meant by their place in query_ids [Q] and gallery_ids [G], both sorted.

    gallery_ids are ASCII, as numpy's str of a million would take 200 MB more.
    query_labels [Q], gallery_labels [G]: int codes, -1 where the label is unknown.
    judged: int [J, 3] of (query, gallery, relevance), relevance 1, 0 or -1 (junk); used where source is
        "qrels".
    copies: int [C, 2] of (query, gallery) that show the same pixels in files of different bytes.
    exclude: what counts as the query itself, which is no answer: all that shows its pixels, or only its own
        bytes.
    """

    source: Literal["labels", "qrels", "none"]
    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.bytes_]
    query_labels: Ints
    gallery_labels: Ints
    judged: Ints
    copies: Ints = field(default_factory=_no_pairs)
    exclude: Exclude = "pixels"

    def _keys(self, pairs: Ints) -> Ints:
        return pairs[:, 0] * len(self.gallery_ids) + pairs[:, 1]

    def same_bytes(self) -> Ints:
        """Where a query is in the gallery too: int [S, 2] of (query, gallery)."""
        # Not intersect1d, which copies and sorts the gallery's ids: of a million, half a gigabyte.
        own = self.query_ids.astype(np.bytes_)
        gallery = np.minimum(np.searchsorted(self.gallery_ids, own), len(self.gallery_ids) - 1)
        queries = np.flatnonzero(self.gallery_ids[gallery] == own)
        return np.column_stack([queries, gallery[queries]]).astype(np.int64)

    def itself(self) -> Ints:
        """What counts as the query itself: int [S, 2] of (query, gallery), each pair once; a query may have
        several.
        """
        return (
            np.concatenate([self.same_bytes(), self.copies])
            if self.exclude == "pixels"
            else self.same_bytes()
        )

    def left_out_copies(self) -> dict[str, list[str]]:
        """The gallery images that rankings lack only because they show the query's pixels in other bytes, by
        query_id; ids, sorted.
        """
        if self.exclude == "bytes" or not len(self.copies):
            return {}
        junk = self._keys(self.judged[self.judged[:, 2] < 0])
        queries, images = self.copies[~np.isin(self._keys(self.copies), junk)].T
        found: dict[str, list[str]] = {}
        for query_id, image_id in zip(
            self.query_ids[queries].tolist(), self.gallery_ids[images].astype(np.str_).tolist(), strict=True
        ):
            found.setdefault(query_id, []).append(image_id)
        return found

    def excluded(self) -> Ints:
        """What is taken out of the rankings, int [E, 2] of (query, gallery): the query itself, and junk."""
        return np.concatenate([self.itself(), self.judged[self.judged[:, 2] < 0, :2]])

    def _right(self) -> Ints:
        """Sorted keys of the pairs judged relevant, without the query itself."""
        return np.setdiff1d(self._keys(self.judged[self.judged[:, 2] > 0]), self._keys(self.itself()))

    def total(self) -> Ints:
        """R: how many gallery images are relevant to each query after exclusions, int [Q].

        0 where nothing is known.
        """
        if self.source == "qrels":
            return np.bincount(self._right() // len(self.gallery_ids), minlength=len(self.query_ids))
        sizes = np.bincount(
            self.gallery_labels[self.gallery_labels >= 0], minlength=int(self.query_labels.max(initial=0)) + 1
        )
        totals = np.where(self.query_labels >= 0, sizes[self.query_labels], 0)
        itself = self.itself()
        same = self.query_labels[itself[:, 0]] == self.gallery_labels[itself[:, 1]]
        np.subtract.at(totals, itself[same & (self.query_labels[itself[:, 0]] >= 0), 0], 1)
        return totals

    def depth(self, *wanted: int) -> int:
        """Of rankings: as deep as wanted, and as `map_at_r` needs, which looks at as many ranks as a query
        has right answers.
        """
        return min(max(*wanted, int(self.total().max())), len(self.gallery_ids))

    def of(self, positions: Ints) -> npt.NDArray[np.bool_]:
        """Whether the gallery images at `positions`, int [Q, K] with -1 behind a ranking's end, are relevant:
        bool [Q, K].
        """
        if self.source == "qrels":
            pairs = np.arange(len(positions))[:, None] * len(self.gallery_ids) + positions
            return np.isin(pairs, self._right()) & (positions >= 0)
        labels = (
            np.where(positions >= 0, self.gallery_labels[positions], -1)
            if len(self.gallery_labels)
            else np.full_like(positions, -1)
        )
        return (labels == self.query_labels[:, None]) & (labels >= 0)

    def ranking(self, positions: Ints, scores: npt.NDArray[np.float32]) -> rankings.Ranking:
        """What was found, by name.

        positions: [Q, K] in the whole gallery, -1 behind a ranking's end; scores: [Q, K], NaN there.
        """
        found = positions >= 0
        used, places = np.unique(positions[found], return_inverse=True)
        own = np.full_like(positions, -1)
        own[found] = places
        return rankings.Ranking(self.query_ids, self.gallery_ids[used].astype(np.str_), own, scores)


def load(exclude: Exclude) -> Relevance:
    """Of the prepared test photos.

    UserError if nothing is prepared, or there are no queries or no gallery.
    """
    return read(
        parquet.read_table(paths.manifest("test"), columns=COLUMNS), parquet.read_table(paths.QRELS), exclude
    )


def read(manifest: pa.Table, qrels: pa.Table, exclude: Exclude) -> Relevance:
    """manifest: schemas.MANIFEST (at least COLUMNS); qrels: schemas.QRELS, without rows where there are none.

    UserError if there are no queries or no gallery.
    """
    queries, gallery = _split(manifest, "query"), _split(manifest, "gallery")
    encoded = pa.chunked_array([queries.labels, gallery.labels]).combine_chunks().dictionary_encode().indices
    query_labels, gallery_labels = np.split(
        encoded.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), [len(queries.ids)]
    )
    judged = np.column_stack(
        [
            _places(queries.ids, qrels.column("query_id")),
            _places(gallery.ids, qrels.column("gallery_id")),
            qrels.column("relevance").to_numpy(),
        ]
    ).astype(np.int64)
    judged = judged[(judged[:, :2] >= 0).all(axis=1)]
    source = "qrels" if qrels.num_rows else "labels" if (query_labels >= 0).any() else "none"
    copies = _copies(queries, gallery)
    return Relevance(
        source,
        queries.ids.astype(np.str_),
        gallery.ids,
        query_labels,
        gallery_labels,
        judged,
        copies,
        exclude,
    )


def judgements(qrels: pa.Table) -> dict[str, int] | None:
    """What qrels.csv held, by schemas.QRELS: {"lines": judgements, "left_out": of them, about unreadable
    photos}; None without the file.
    """
    counted = qrels.schema.metadata or {}
    return (
        {"lines": int(counted[b"judgements"]), "left_out": int(counted[b"left_out"])}
        if b"judgements" in counted
        else None
    )


def gallery_positions(ranking: rankings.Ranking, answers: Relevance, place: str) -> Ints:
    """The ranking's images as places in the whole gallery, [Q, K]. UserError if it is of other images."""
    names = ranking.gallery_ids.astype(np.bytes_)
    own = np.searchsorted(answers.gallery_ids, names)
    known = np.array_equal(answers.gallery_ids[np.minimum(own, len(answers.gallery_ids) - 1)], names)
    if not known or not np.array_equal(ranking.query_ids, answers.query_ids):
        raise UserError(
            f"{place}: ranks other images than {paths.manifest('test')} holds; run `dvc repro` to search again"
        )
    return np.where(ranking.positions >= 0, own[ranking.positions], -1) if len(own) else ranking.positions


class _Split(NamedTuple):
    """The images of a split, sorted by id: ids [N], ASCII; labels, pixels: columns of the manifest."""

    ids: npt.NDArray[np.bytes_]
    labels: pa.Array
    pixels: pa.ChunkedArray


def _split(manifest: pa.Table, split: str) -> _Split:
    rows = manifest.filter(pc.field("split") == split)
    if rows.num_rows == 0:
        raise UserError(
            f"data/raw/test/{split}: holds no image that can be read; put at least one there and run `dvc repro`"
        )
    ids = _ascii(rows.column("image_id"))
    assert (ids[1:] > ids[:-1]).all(), "manifests are sorted, one row per image and split"
    return _Split(ids, rows.column("label").combine_chunks(), rows.column("pixels_id"))


def _copies(queries: _Split, gallery: _Split) -> Ints:
    """Pairs of the same pixels in other bytes, int [C, 2] of (query, gallery), sorted."""
    shown = queries.pixels.combine_chunks().dictionary_encode()
    picture = pc.call_function(
        "index_in", [gallery.pixels], pc.SetLookupOptions(shown.dictionary)
    ).combine_chunks()
    found = np.flatnonzero(picture.is_valid().to_numpy(zero_copy_only=False))  # few, unless all were copied
    of_gallery, of_queries = picture.take(pa.array(found)).to_numpy(), shown.indices.to_numpy()
    by_picture = np.argsort(of_queries, kind="stable")
    first, end = (np.searchsorted(of_queries[by_picture], of_gallery, side) for side in ("left", "right"))
    pairs = [
        (q, g) for g, a, b in zip(found.tolist(), first, end, strict=True) for q in by_picture[a:b].tolist()
    ]
    pairs = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return pairs[queries.ids[pairs[:, 0]] != gallery.ids[pairs[:, 1]]]


def _ascii(column: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """A part at a time: a list of a million strings takes as much again, and leaves memory in pieces."""
    longest = pc.call_function("max", [pc.call_function("binary_length", [column])]).as_py() or 1
    names = np.empty(len(column), f"S{longest}")
    for start in range(0, len(names), 65_536):
        names[start : start + 65_536] = column.slice(start, 65_536).to_pylist()
    return names


def _places(ids: npt.NDArray[np.bytes_], column: pa.ChunkedArray) -> Ints:
    """Each value's place in the sorted ids, -1 where it isn't there."""
    names = _ascii(column)
    places = np.minimum(np.searchsorted(ids, names), len(ids) - 1)
    return np.where(ids[places] == names, places, -1)
