"""Pairs whose labels are in doubt: every row ranks the image first, and the labels call it wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lineup.judging.photos import Photos
from lineup.judging.pool import Pool


def find(pool: Pool, photos: Photos, known: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The suspects: {query_id: gallery_id}.

    The report counts votes for a label instead (lineup/report/suspects.py); here a pair is what a person can
    judge.

    Args:
        known: {query_id: {gallery_id: relevance}}: pairs that qrels.csv judges, which overrides labels.
    """
    labels = {query: photo.label for query, photo in photos.queries.items() if photo.label is not None}
    return {
        query: image
        for query, image in agreed_first_answers(pool).items()
        if query in labels
        and photos.gallery[image].label not in (None, labels[query])
        and image not in known.get(query, {})
    }


def agreed_first_answers(pool: Pool) -> dict[str, str]:
    """The image that every row ranks first, where all agree: {query_id: gallery_id}."""
    top = pool.ranked[:, :, 0]
    agreed = np.flatnonzero((top == top[0]).all(axis=0) & (top[0] >= 0))
    return dict(zip(pool.query_ids[agreed].tolist(), pool.ids(top[0, agreed]), strict=True))
