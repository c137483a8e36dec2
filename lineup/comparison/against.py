"""Two comparisons, an earlier and a later one: what changed, and whether it is more than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lineup.comparison.pairs import FEWEST_FLIPS
from lineup.comparison.snapshot import Snapshot
from lineup.evaluation import significance
from lineup.evaluation.query_tables import label_codes


class Difference(NamedTuple):
    """A row's later mean minus its earlier one, over the queries that both scored under one label.

    low, high: the 95% interval, NaN where all these queries have one label; p_holm: p of the paired test,
    adjusted for the number of rows.
    """

    mean: float
    low: float
    high: float
    p_holm: float


class QueryChanges(NamedTuple):
    """How the queries of two comparisons differ; same: how many both scored under one label."""

    same: int
    added: int
    removed: int
    relabelled: int


def query_changes(old: Snapshot, new: Snapshot) -> QueryChanges:
    """All rows of a comparison have the same queries, so its first row stands for all."""
    tables = [next(iter(snapshot.queries.values()), None) for snapshot in (old, new)]
    before, after = tables
    if before is None or after is None:
        return QueryChanges(0, 0, 0, 0)
    labels_before, labels_after = _labels(before), _labels(after)
    common = labels_before.keys() & labels_after.keys()
    return QueryChanges(
        same=len(_matched(before, after, new.metric)[0]),
        added=len(labels_after) - len(common),
        removed=len(labels_before) - len(common),
        relabelled=sum(labels_before[query] != labels_after[query] for query in common),
    )


def differences(old: Snapshot, new: Snapshot, samples: int, seed: int) -> dict[str, Difference]:
    """How much the metric of `new` changed in each row.

    Rows are left out that have no query that both scored, or whose metric is a range, as some of their
    answers are not judged.

    Queries are resampled, and their signs are flipped, by label, as between two rows of one comparison.

    Args:
        samples: of the bootstrap.
        seed: of resampling and of flipping.
    """
    tested: dict[str, Difference] = {}
    for row in (new.queries.keys() & old.queries.keys()) - old.inexact - new.inexact:
        before, after = _matched(old.queries[row], new.queries[row], new.metric)
        if not len(after):
            continue
        change = (after.column(new.metric).to_numpy() - before.column(new.metric).to_numpy())[:, None]
        clusters = significance.cluster_codes(label_codes(after))
        low, high = significance.bootstrap_interval(change, clusters, samples, seed)
        p = significance.randomisation_test(change, clusters, FEWEST_FLIPS, seed)
        tested[row] = Difference(*(float(figure[0]) for figure in (change.mean(axis=0), low, high, p)))
    adjusted = significance.holm(np.array([row.p_holm for row in tested.values()]))
    return {
        row: difference._replace(p_holm=float(p))
        for (row, difference), p in zip(tested.items(), adjusted, strict=True)
    }


def _labels(queries: pa.Table) -> dict[str, str]:
    return dict(zip(queries.column("query_id").to_pylist(), queries.column("label").to_pylist(), strict=True))


def _matched(before: pa.Table, after: pa.Table, metric: str) -> tuple[pa.Table, pa.Table]:
    """The queries that both tables scored under one label, in one order."""
    number_before, number_after = _scored(before, metric), _scored(after, metric)
    common = [query for query in number_after if query in number_before]
    return (
        before.take([number_before[query] for query in common]),
        after.take([number_after[query] for query in common]),
    )


def _scored(queries: pa.Table, metric: str) -> dict[tuple[str, str], int]:
    """{(query_id, label): line} of the queries that count: the metric of the others is NaN."""
    is_scored = ~np.isnan(queries.column(metric).to_numpy())
    names = zip(queries.column("query_id").to_pylist(), queries.column("label").to_pylist(), strict=True)
    return {name: number for number, name in enumerate(names) if is_scored[number]}
