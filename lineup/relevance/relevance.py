"""Which gallery images are relevant to which query.

The user's judgements (qrels.csv) decide where there are any. Else labels do: images with one label are
relevant to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from lineup import paths
from lineup.errors import UserError
from lineup.settings.sections import Exclude
from lineup.storage import rankings

IntArray = npt.NDArray[np.int64]


def _no_pairs() -> IntArray:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Relevance:
    """The relevant gallery images of every query, and what is left out of rankings.

    Images are numbered by their position in query_ids and gallery_ids.

    Attributes:
        source: what decides relevance; "none" if there are neither judgements nor labels.
        query_ids: str [Q], sorted.
        gallery_ids: ASCII bytes [G], sorted; a million of them as numpy's str would take 200 MB more.
        query_labels, gallery_labels: int [Q] and [G], a code per label, -1 where the label is unknown.
        judged: int [J, 3] of (query, gallery image, relevance), where relevance is 1 (relevant), 0 (not
            relevant) or -1 (junk). The first two count only where source is "qrels".
        copies: int [C, 2] of (query, gallery image) with the same pixels in files of different bytes.
        exclude: what counts as the query itself, and hence never as its answer: "pixels" means every gallery
            image with its pixels, "bytes" only one with its very bytes.
    """

    source: Literal["labels", "qrels", "none"]
    query_ids: npt.NDArray[np.str_]
    gallery_ids: npt.NDArray[np.bytes_]
    query_labels: IntArray
    gallery_labels: IntArray
    judged: IntArray
    copies: IntArray = field(default_factory=_no_pairs)
    exclude: Exclude = "pixels"

    def is_relevant(self, positions: IntArray) -> npt.NDArray[np.bool_]:
        """Whether the gallery images of rankings are relevant to their queries.

        Args:
            positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end.
        Returns:
            bool [Q, K], False behind a ranking's end.
        """
        if self.source == "qrels":
            keys = np.arange(len(positions))[:, None] * len(self.gallery_ids) + positions
            return np.isin(keys, self._relevant_keys()) & (positions >= 0)
        labels = (
            np.where(positions >= 0, self.gallery_labels[positions], -1)
            if len(self.gallery_labels)
            else np.full_like(positions, -1)
        )
        return (labels == self.query_labels[:, None]) & (labels >= 0)

    def num_relevant(self) -> IntArray:
        """R, the number of gallery images relevant to each query: int [Q].

        What `excluded` leaves out does not count. R is 0 where nothing is known of a query.
        """
        if self.source == "qrels":
            return np.bincount(self._relevant_keys() // len(self.gallery_ids), minlength=len(self.query_ids))
        label_sizes = np.bincount(
            self.gallery_labels[self.gallery_labels >= 0], minlength=int(self.query_labels.max(initial=0)) + 1
        )
        counts = np.where(self.query_labels >= 0, label_sizes[self.query_labels], 0)
        matches = self.self_matches()
        same_label = self.query_labels[matches[:, 0]] == self.gallery_labels[matches[:, 1]]
        labelled = self.query_labels[matches[:, 0]] >= 0
        np.subtract.at(counts, matches[same_label & labelled, 0], 1)
        return counts

    def required_depth(self, *depths: int) -> int:
        """How deep rankings must be: at least `depths`, and one more than R of every query.

        `metrics.map_at_r` needs R images, and the first that is not relevant may follow them. No ranking is
        deeper than the gallery.
        """
        return min(max(*depths, int(self.num_relevant().max()) + 1), len(self.gallery_ids))

    def is_known(self) -> npt.NDArray[np.bool_]:
        """Whether anything is known of what is relevant to each query: bool [Q]."""
        if self.source == "qrels":
            judged = self.judged[self.judged[:, 2] >= 0, 0]
            return np.bincount(judged, minlength=len(self.query_ids)) > 0
        return self.query_labels >= 0

    def self_matches(self) -> IntArray:
        """Gallery images that count as the query itself: int [S, 2] of (query, gallery image).

        Each pair occurs once; a query may have several.
        """
        if self.exclude == "bytes":
            return self.same_bytes()
        return np.concatenate([self.same_bytes(), self.copies])

    def same_bytes(self) -> IntArray:
        """Queries whose file is in the gallery, too: int [S, 2] of (query, gallery image)."""
        # intersect1d would copy and sort the gallery's ids: half a gigabyte for a million.
        ids = self.query_ids.astype(np.bytes_)
        positions = np.minimum(np.searchsorted(self.gallery_ids, ids), len(self.gallery_ids) - 1)
        queries = np.flatnonzero(self.gallery_ids[positions] == ids)
        return np.column_stack([queries, positions[queries]]).astype(np.int64)

    def excluded(self) -> IntArray:
        """What rankings leave out, the query itself and junk: int [E, 2] of (query, gallery image)."""
        return np.concatenate([self.self_matches(), self.judged[self.judged[:, 2] < 0, :2]])

    def left_out_copies(self) -> dict[str, list[str]]:
        """Gallery images that rankings lack only because they show the query's pixels in other bytes.

        Returns:
            {query_id: image_ids}, both sorted; junk is not among them.
        """
        if self.exclude == "bytes" or not len(self.copies):
            return {}
        junk = self._keys(self.judged[self.judged[:, 2] < 0])
        queries, images = self.copies[~np.isin(self._keys(self.copies), junk)].T
        copies: dict[str, list[str]] = {}
        for query_id, image_id in zip(
            self.query_ids[queries].tolist(), self.gallery_ids[images].astype(np.str_).tolist(), strict=True
        ):
            copies.setdefault(query_id, []).append(image_id)
        return copies

    def ranking(self, positions: IntArray, scores: npt.NDArray[np.float32]) -> rankings.Ranking:
        """The rankings with their images' ids instead of numbers.

        Args:
            positions: int [Q, K] of gallery images by rank, -1 behind a ranking's end.
            scores: float32 [Q, K], NaN there.
        """
        ranked = positions >= 0
        used, numbers = np.unique(positions[ranked], return_inverse=True)
        among_used = np.full_like(positions, -1)
        among_used[ranked] = numbers
        return rankings.Ranking(self.query_ids, self.gallery_ids[used].astype(np.str_), among_used, scores)

    def _keys(self, pairs: IntArray) -> IntArray:
        """One number per pair of (query, gallery image): int [P]."""
        return pairs[:, 0] * len(self.gallery_ids) + pairs[:, 1]

    def _relevant_keys(self) -> IntArray:
        """Sorted keys of the pairs judged relevant, without the query itself."""
        return np.setdiff1d(self._keys(self.judged[self.judged[:, 2] > 0]), self._keys(self.self_matches()))


def gallery_positions(ranking: rankings.Ranking, relevance: Relevance, source: str) -> IntArray:
    """The ranking's images as positions in the whole gallery.

    Args:
        ranking: its gallery_ids are those that occur in it.
        relevance: its gallery_ids are the whole gallery's.
        source: the ranking's file, for the error.
    Returns:
        int [Q, K], -1 behind a ranking's end.
    Raises:
        UserError: the ranking is of other images.
    """
    ids = ranking.gallery_ids.astype(np.bytes_)
    positions = np.searchsorted(relevance.gallery_ids, ids)
    known = np.array_equal(relevance.gallery_ids[np.minimum(positions, len(relevance.gallery_ids) - 1)], ids)
    if not known or not np.array_equal(ranking.query_ids, relevance.query_ids):
        raise UserError(
            f"{source}: ranks other images than {paths.manifest('test')} holds; "
            "run `dvc repro` to search again"
        )
    if not len(positions):
        return ranking.positions
    return np.where(ranking.positions >= 0, positions[ranking.positions], -1)
