"""The sentences on edited copies: what figures on them say, and which edits a row survives."""

from __future__ import annotations

import math

from lineup.comparison.comparison import ComparedRow
from lineup.evaluation.row_metrics import RowMetrics
from lineup.layouts import edit_kinds
from lineup.summary import tables
from lineup.summary.rich_text import Code, Text

_WEAKEST_KINDS_NAMED = 2


def meaning(metrics: RowMetrics) -> str:
    """What figures on edited copies say, and what they do not; empty without such copies."""
    if metrics.edits_only:
        return (
            "The figures say which edits a row survives. "
            "They do not say which photos it finds that people would call right."
        )
    if metrics.edited:
        return (
            f"Of these queries, {metrics.edited:,} are edited copies of gallery photos: they say which edits "
            "a row survives, not which photos it finds that people would call right."
        )
    return ""


def survival(row: ComparedRow) -> Text:
    """After which edits a row finds the fewest originals; empty without edited copies."""
    edits = row.metrics.edits
    if not edits:
        return ()
    weakest = sorted((copies.top_1, kind) for kind, copies in edits.items() if copies.top_1 < 1)
    if not weakest:
        return " ", Code(row.name), " finds every original, whatever the edit."
    named = weakest[:_WEAKEST_KINDS_NAMED]
    listed = " and ".join(f"{kind} ({tables.figure(top_1, 2)})" for top_1, kind in named)
    return " ", Code(row.name), f" finds the fewest originals after {listed}."


def legend(metrics: RowMetrics) -> list[str]:
    """What each kind of edit is, and how uncertain its figures are; empty without edited copies."""
    if not metrics.edits:
        return []
    fewest = min(copies.queries for copies in metrics.edits.values())
    # Half the 95% interval of a share of one half, by the normal approximation.
    margin = 1.96 * math.sqrt(0.25 / fewest)
    kinds = [
        f"{kind} ({metrics.edits[kind].queries:,} queries): {description}."
        for kind, description in edit_kinds.DESCRIPTIONS.items()
        if kind in metrics.edits
    ]
    return [
        "Edits: share of the queries of a kind whose original, or an exact copy of it, comes first (top_1). "
        f"With {fewest:,} queries of a kind, chance moves it by up to {margin:.2f} either way; "
        "lineup photos makes more with --queries. "
        "A gallery photo that is almost the original, such as the same photo saved anew, counts as wrong.",
        *kinds,
    ]
