"""The metrics of a row put together: how many queries were scored, why others were not, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineup.evaluation import significance
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.quality_records import Average, EditedCopies, Identification, Partial
from lineup.evaluation.rounding import DECIMALS
from lineup.evaluation.row_metrics import (
    Enlarged,
    Judgements,
    JudgesAgreement,
    OwnPicture,
    PeopleJudged,
    RowMetrics,
    TrainingLabels,
)
from lineup.evaluation.scoring import Scores
from lineup.layouts import edit_kinds
from lineup.relevance import agreement
from lineup.relevance.judged_relevance import JudgedRelevance
from lineup.relevance.judgements import Judgement, latest, resolved
from lineup.relevance.relevance import Relevance


def summarise(
    row: str,
    scores: Scores,
    relevance: Relevance,
    quality: Mapping[str, Average],
    identified: Identification | None,
    costs: RowCosts,
    *,
    depth: int,
    judged: Judgements | None,
    enlarged: Enlarged | None,
    edits: Mapping[str, EditedCopies],
    people: PeopleJudged | None = None,
    partial: Partial | None = None,
    training: TrainingLabels | None = None,
) -> RowMetrics:
    """The row's metrics: how many queries were scored, why others were not, how well, and at what cost.

    Args:
        quality: what `averages.averages` returned.
        identified: what `identification_figures.identify` returned.
        depth: of the rankings.
        judged: the lines of qrels.csv.
        enlarged: what `count_enlarged` returned.
        edits: what `edited_copies` returned.
        people: who judged which pairs, None where nobody did.
        partial: what `averages.partial` returned.
        training: the labels that the row was trained with, None if it wasn't.
    """
    scored = scores.scored
    unlabelled = relevance.query_labels < 0 if relevance.source != "qrels" else np.zeros_like(scored)
    if isinstance(relevance, JudgedRelevance):
        unlabelled &= ~relevance.is_judged()
    why_none = "no labels" if relevance.source == "none" else "no right answer in the gallery"
    labels = relevance.query_labels[scored]
    return RowMetrics(
        row=row,
        relevance=relevance.source,
        unscored=None if scored.any() else why_none,
        queries=len(scored),
        scored=int(scored.sum()),
        without_label=int(np.sum(unlabelled)),
        without_answer=int(np.sum(~scored & ~unlabelled)),
        labels=len(np.unique(labels[labels >= 0])),
        clusters=len(np.unique(significance.cluster_codes(labels))),
        gallery=len(relevance.gallery_ids),
        exclude=relevance.exclude,
        own_picture=OwnPicture(same_bytes=len(relevance.same_bytes()), other_bytes=len(relevance.copies)),
        depth=depth,
        judgements=judged,
        enlarged=enlarged,
        quality=dict(quality),
        identification=identified,
        costs=costs,
        edits=dict(edits),
        people=people,
        partial=partial,
        training=training,
    )


def people_judged(
    judgements: Sequence[Judgement], relevance: Relevance, scores: Scores
) -> PeopleJudged | None:
    """Who judged which pairs of a collection, and whether they agree; None where nobody judged any pair.

    Args:
        judgements: of data/judgements.csv.
        relevance: what `with_people` returned for them.
        scores: of any row.
    """
    everywhere = resolved(judgements)
    if not everywhere:
        return None
    pairs = relevance.people_pairs() if isinstance(relevance, JudgedRelevance) else set()
    here = [each for each in judgements if (each.query, each.gallery) in pairs]
    return PeopleJudged(
        pairs=len(pairs),
        queries=len({query for query, _ in pairs}),
        left_out=len(everywhere) - len(pairs),
        without_right=int(np.sum(scores.scored & (scores.num_relevant == 0))),
        judges=len({each.judge for each in latest(here).values() if each.relevance is not None}),
        disagreements=len(agreement.disagreements(here)),
        agreements=tuple(JudgesAgreement(**each._asdict()) for each in agreement.agreements(here)),
    )


def count_enlarged(manifest: pa.Table, resize_px: int) -> Enlarged:
    """How many images are smaller than a row resizes them to, so that its transform enlarges them."""
    shorter_side = np.minimum(manifest.column("width").to_numpy(), manifest.column("height").to_numpy())
    return Enlarged(images=int(np.sum(shorter_side < resize_px)), of=len(shorter_side), resize_px=resize_px)


def edited_copies(scores: Scores, manifest: pa.Table) -> dict[str, EditedCopies]:
    """The scored queries of each kind of edit; none where queries are other photos.

    Args:
        manifest: schemas.MANIFEST, at least `split` and `paths`.
    """
    query_paths = manifest.filter(pc.field("split") == "query").column("paths").to_pylist()
    kinds = [next(filter(None, map(edit_kinds.kind_of, paths)), None) for paths in query_paths]
    copies = {}
    for kind in edit_kinds.NAMES:
        of_kind = np.array([other == kind for other in kinds], bool) & scores.scored
        if of_kind.any():
            top_1 = round(float(np.mean(scores.first_hit[of_kind] == 1)), DECIMALS)
            copies[kind] = EditedCopies(queries=int(of_kind.sum()), top_1=top_1)
    return copies
