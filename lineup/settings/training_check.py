"""Ends a run at its first stage if params.yaml has rows that can't be trained on the photos at hand."""

from __future__ import annotations

from lineup.settings import label_share, training_photos
from lineup.settings.objective import NoObjective, Objective
from lineup.settings.params import Params


def check(params: Params, counts: training_photos.Counts) -> None:
    """Checks that every row can be trained on these photos.

    `train` checks this again, but only after all weights are fetched. The rows decide no result of
    `preprocess`, which calls this, so they are none of its deps.

    Args:
        counts: how many training images each label has.
    Raises:
        UserError: some rows can't be trained.
    """
    by_share: dict[float, dict[str, Objective]] = {}
    for row, model in params.models.items():
        share = 1.0 if isinstance(model.objective, NoObjective) else model.objective.label_share
        by_share.setdefault(share, {})[row] = model.objective
    for share, objectives in by_share.items():
        seen = label_share.counts(counts, share, params.seed)
        training_photos.check_rows(objectives, params.train, seen)
