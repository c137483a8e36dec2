"""Pairs whose labels are in doubt: every row ranks the image first, and the labels call it wrong."""

from __future__ import annotations

from collections.abc import Mapping

from lineup.judging.photos import Photos
from lineup.judging.pool import Pool, agreed_first_answers


def find(pool: Pool, photos: Photos, known: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The suspects: {query_id: gallery_id}.

    The report counts votes for a label instead (lineup/report/suspects.py); here a pair is what a person can
    judge.

    Args:
        known: {query_id: {gallery_id: relevance}}: pairs that qrels.csv judges, which overrides labels.
    """
    labelled = {query for query, photo in photos.queries.items() if photo.label is not None}
    return {
        query: image
        for query, image in agreed_first_answers(pool, labelled).items()
        if photos.gallery[image].label not in (None, photos.queries[query].label)
        and image not in known.get(query, {})
    }
