"""The comparison as Markdown that reads as well in a terminal: verdict, quality, cost, how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lineup.comparison.comparison import Comparison, Standing
from lineup.summary import cost_sentences, match_view, rich_text, sentences, tables
from lineup.summary.rich_text import Code, Data, Listing, Span, Strong
from lineup.summary.tables import Cell, Estimate, RowName, Section, Table

_HOW_TO_JUDGE = (
    "`lineup judge` asks you which answers are right, and `dvc repro` then measures quality by that."
)


def page(compared: Comparison, weaknesses: Iterable[Listing] = (), on_training: Iterable[str] = ()) -> str:
    """The whole page, metrics/comparison.md.

    Args:
        weaknesses: what `slice_sentences.weaknesses` returned.
        on_training: sections on trained rows, which stand before the costs.
    """
    measured_on, notes = sentences.measured_on(compared), sentences.notes(compared)
    measured = _listing(measured_on)
    failing = "\n\n".join("\n".join(_listing(each)) for each in weaknesses)
    measured += ["", "Notes:", "", *_items(map(text, notes))] if notes else []
    edits = tables.edits(compared)
    parts = [
        f"# {sentences.title(compared)}",
        "\n".join(sentences.task(compared.task)),
        _HOW_TO_JUDGE if compared.task.unscored and compared.task.relevance == "none" else "",
        text(sentences.verdict(compared)),
        "## Quality\n\n" + table(tables.quality(compared)),
        "## Edits\n\n" + table(edits) if edits else "",
        _match(compared) if match_view.is_shown(compared) else "",
        "## Where it fails\n\n" + failing if failing else "",
        *on_training,
        "## Cost\n\n" + table(tables.cost(compared)),
        "\n".join(measured),
        _money(compared),
        "## How to read it\n\n" + "\n".join(_items(sentences.legend(compared))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section(content: Section) -> str:
    """A table and the sentences below it; empty if there is neither."""
    parts = [*([table(content.table)] if content.table else []), *map(text, content.sentences)]
    return "\n\n".join([f"## {content.title}", *parts]) if parts else ""


def _match(compared: Comparison) -> str:
    parts = [f"## {match_view.TITLE}", table(match_view.table(compared))]
    parts += map(text, match_view.sentences(compared))
    return "\n\n".join([*parts, "\n".join(_items(match_view.legend()))])


def _money(compared: Comparison) -> str:
    dollars = tables.money(compared)
    if dollars is None:
        return ""
    return "\n\n".join(["## Money", table(dollars), *map(text, cost_sentences.pareto_optimal(compared))])


def _listing(listing: Listing) -> list[str]:
    items = ["", *_items(map(text, listing.items))] if listing.items else []
    return [text(listing.introduction), *items]


def _items(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def text(spans: Iterable[Span]) -> str:
    """A sentence, in one line."""
    return "".join(map(_span, spans))


def _span(span: Span) -> str:
    match span:
        case Code(name):
            return f"`{name}`"
        case Data(content):
            return rich_text.escaped(content)
        case Strong(spans):
            return f"**{text(spans)}**"
        case _:
            return span


def table(content: Table) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    lines = [content.header, *([_cell(cell) for cell in line] for line in content.lines)]
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(_line(cells, widths) for cells in (lines[0], rule, *lines[1:]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _cell(cell: Cell) -> str:
    match cell:
        case RowName(name, random):
            return f"`{name}`" + (" (random weights)" if random else "")
        case Estimate(mean, interval):
            return f"{mean} {interval}".rstrip()
        case Standing():
            return _standing(cell)
        case Data(content):
            return rich_text.escaped(content)
        case _:
            return cell


def _standing(standing: Standing) -> str:
    match standing.outcome:
        case "best":
            return "best"
        case "random weights":
            return "not a result"
        case outcome:
            words = "worse" if outcome == "worse" else "can't tell"
            if standing.difference is None or standing.p_holm is None:
                return words
            return f"{tables.signed(standing.difference)} {words}, {tables.p_value(standing.p_holm)}"
