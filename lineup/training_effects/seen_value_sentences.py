"""What the comparison says of queries with a value of an attribute that no training photo has."""

from __future__ import annotations

from collections.abc import Sequence

from lineup.comparison.comparison import SIGNIFICANCE_LEVEL
from lineup.summary import tables
from lineup.summary.rich_text import Code, Data, Text
from lineup.summary.tables import Cell, RowName, Table
from lineup.training_effects import seen_label_sentences
from lineup.training_effects.seen_labels import GROUPS
from lineup.training_effects.seen_values import OfValues

TITLE = "Seen and unseen values of attributes"
_LEGEND = (
    "A value of data/raw/attributes.csv is seen if a training photo has it, too. Against its start: as for "
    "seen labels; p is Holm-adjusted for all attributes and rows. metrics/seen_values.csv has all figures."
)


def shown(computed: Sequence[OfValues]) -> list[OfValues]:
    """The groups of rows with a start that are large enough, of attributes with a large group of unseen."""
    large = [each for each in computed if each.figures.is_large and each.figures.start is not None]
    with_unseen = {each.attribute for each in large if each.figures.group == "unseen"}
    return [each for each in large if each.attribute in with_unseen]


def table(computed: Sequence[OfValues]) -> Table | None:
    """A line for each attribute and each trained row that has a start; None if no group is large enough."""
    lines_of = shown(computed)
    if not lines_of:
        return None
    header = ["attribute", "model", "start"]
    for group in GROUPS:
        header += [f"{lines_of[0].figures.metric}, {group} values", "against its start"]
    of = {(each.attribute, each.figures.model, each.figures.group): each.figures for each in lines_of}
    lines: list[list[Cell]] = []
    for attribute, row in dict.fromkeys((each.attribute, each.figures.model) for each in lines_of):
        groups = [of.get((attribute, row, group)) for group in GROUPS]
        start = next(str(figures.start) for figures in groups if figures is not None)
        line: list[Cell] = [Data(attribute), RowName(row, random=False), RowName(start, random=False)]
        for figures in groups:
            line += seen_label_sentences.cells(figures)
        lines.append(line)
    return Table(header, lines)


def sentences(computed: Sequence[OfValues]) -> list[Text]:
    """Which rows lost on unseen values, and how to read the table; empty where there is none."""
    said: list[Text] = []
    for attribute, figures in shown(computed):
        lost = figures.to_start
        if figures.group != "unseen" or lost is None or lost.p_holm is None:
            continue
        if lost.value < 0 and lost.p_holm < SIGNIFICANCE_LEVEL:
            where = f" lost {tables.size(*lost)} against its start on queries with an unseen value of "
            said.append((Code(figures.model), where, Data(attribute), "."))
    return [*said, (_LEGEND,)] if shown(computed) else []
