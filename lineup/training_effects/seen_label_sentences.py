"""What the comparison says of seen and unseen labels: what training gained, and what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from lineup.summary import tables
from lineup.summary.rich_text import Text, names
from lineup.summary.tables import Cell, RowName, Table
from lineup.training_effects.seen_labels import GROUPS, OfLabels

TITLE = "Seen and unseen labels"
_ADJUSTED = (
    "Against its start: the difference to the row with the same encoder and objective: none, on the same "
    "queries, with its 95% interval over labels; p is Holm-adjusted. metrics/seen_labels.csv has all figures."
)


def table(computed: Sequence[OfLabels]) -> Table | None:
    """A line for each trained row that has a start; None if no group of theirs is large enough."""
    shown = [each for each in computed if each.is_large and each.start is not None]
    groups = [group for group in GROUPS if any(each.group == group for each in shown)]
    if not groups:
        return None
    metric = shown[0].metric
    header = ["row", "start"]
    for group in groups:
        header += [f"{metric}, {group} labels", "against its start"]
    of = {(each.model, each.group): each for each in shown}
    lines: list[list[Cell]] = []
    for row in dict.fromkeys(each.model for each in shown):
        start = next(each.start for each in shown if each.model == row)
        line: list[Cell] = [RowName(row, random=False), RowName(str(start), random=False)]
        for group in groups:
            line += cells(of.get((row, group)))
        lines.append(line)
    return Table(header, lines)


def cells(each: OfLabels | None) -> list[Cell]:
    """A group's mean and its difference to the start, as they are shown."""
    if each is None or each.to_start is None:
        return [tables.NO_FIGURE, tables.NO_FIGURE]
    interval = "" if each.low is None or each.high is None else f" ({each.low:.3f}-{each.high:.3f})"
    return [f"{each.mean:.3f}{interval}", tables.difference(*each.to_start)]


def sentences(computed: Sequence[OfLabels]) -> list[Text]:
    """What the queries allow to say; empty where no trained row has a query with a label."""
    if not computed:
        return []
    said: list[Text] = []
    large = {each.group for each in computed if each.is_large}
    present = {each.group for each in computed}
    if present == {"unseen"}:
        said.append(
            (
                "No query has a label that a row was trained on: what a row gains on its start is what it "
                "has learned for new labels.",
            )
        )
    elif present == {"seen"}:
        said.append(
            (
                "All queries have labels that the rows were trained on, so nothing here says how the rows "
                "do on new labels; take some labels out of the training photos to see it.",
            )
        )
    elif missing := [group for group in GROUPS if group not in large]:
        said.append((f"Too few queries have {' or '.join(missing)} labels to say how rows do on these.",))
    if without := [*dict.fromkeys(each.model for each in computed if each.start is None)]:
        has, its = ("has", "its") if len(without) == 1 else ("have", "their")
        said.append(
            (
                *names(without),
                f" {has} no start among the rows: a row with {its} encoder and objective: none would show "
                "what training gained and lost.",
            )
        )
    return [*said, (_ADJUSTED,)] if table(computed) else said
