"""How many labels do I need? What the last doubling of a row's labelled photos brought."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lineup.comparison.comparison import SIGNIFICANCE_LEVEL, Pair
from lineup.comparison.sweeps import LABELLED_PHOTOS, Sweep
from lineup.evaluation.row_metrics import RowMetrics
from lineup.summary import tables
from lineup.summary.rich_text import Code, Text

TITLE = "How many labels do you need?"


class LastDoubling(NamedTuple):
    """The last step of a learning curve.

    fewer, more: labelled photos, of which `more` is the largest of the curve and `fewer` the nearest to half
    of it; pair: the row with more minus the row with fewer.
    """

    fewer: int
    more: int
    pair: Pair


def last_doubling(sweep: Sweep, pairs: Iterable[Pair], metric: str) -> LastDoubling | None:
    """What the last doubling brought; None unless the sweep is a learning curve whose rows were compared."""
    if sweep.setting != LABELLED_PHOTOS or len(sweep.rows) < 2:
        return None
    *smaller, most = sorted(sweep.rows)
    fewer = min(smaller, key=lambda photos: (abs(math.log(most / (2 * photos))), photos))
    ends = (sweep.rows[most], sweep.rows[fewer])
    for pair in pairs:
        if pair.metric == metric and {pair.a, pair.b} == {*ends}:
            return LastDoubling(int(fewer), int(most), pair if pair.a == ends[0] else pair.reversed())
    return None


def sentences(
    sweeps: Iterable[Sweep],
    rows: Mapping[str, RowMetrics],
    pairs: Sequence[Pair],
    metric_names: Sequence[str],
) -> Iterator[Text]:
    """A sentence for each learning curve.

    Args:
        rows: the metrics of each row; metric_names: those of `comparison.shown_metrics`.
    """
    for sweep in sweeps if metric_names else ():
        last = last_doubling(sweep, pairs, metric_names[0])
        if last and not any(rows[row].costs.random for row in sweep.rows.values()):
            points = {photos: rows[row].middle(metric_names[0]) for photos, row in sweep.rows.items()}
            yield sentence(last, points)


def sentence(last: LastDoubling, points: Mapping[float, float]) -> Text:
    """The curve, what its last doubling brought, with its interval, and whether that is more than chance.

    Args:
        points: {labelled photos: the metric's mean}.
    """
    pair = last.pair
    curve = ", ".join(f"{mean:.3f} with {int(photos):,}" for photos, mean in sorted(points.items()))
    brought = tables.difference(pair.difference, pair.low, pair.high, pair.p_holm)
    certain = pair.p_holm < SIGNIFICANCE_LEVEL
    return (
        Code(pair.a),
        f": {pair.metric} {curve} labelled photos. "
        f"From {last.fewer:,} to {last.more:,}, it changed by {brought}, ",
        "which is more than chance." if certain else "which can't be told from zero.",
    )
