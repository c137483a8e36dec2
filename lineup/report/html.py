"""The front page's HTML, by Jinja with autoescape: names and labels are shown as the characters they have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from lineup.evaluation import comparison
from lineup.evaluation.comparison import Rows, Standings
from lineup.report import js_data

PAGE = Path(__file__).parent / "page"
ASSETS = ("page.css", "page.js", "charts.js", "tables.js", "queries.js", "suspects.js", "copies.js")

# Figures as the comparison's Markdown has them: **strong**, `code`, and a backslash before what is neither.
_MARKED = re.compile(r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`|\\(?P<plain>.)", re.DOTALL)


def index(
    rows: Rows,
    found: Standings,
    names: Sequence[str],
    charts: Any,
    leaks: Sequence[dict[str, str]],
    shown: int,
) -> str:
    """names: the metrics shown, as for `comparison.page`.

    Charts: `front.chart_data`; leaks: rows of leaks.csv, `shown` of them shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked"] = marked
    quality, cost = comparison.quality(rows, found, names), comparison.cost(rows, found.ordered, names)
    doubled = 1 + len(names[:1])  # the cost table repeats the row and its first metric
    first = rows[found.ordered[0]]
    return environment.get_template("index.html.j2").render(
        task=comparison.task(first),
        verdict=comparison.verdict(rows, found),
        header=[*quality.header, *cost.header[doubled:]],
        quality_columns=len(quality.header),
        lines=[[*a, *b[doubled:]] for a, b in zip(quality.lines, cost.lines, strict=True)],
        measured_on=items(comparison.measured_on(rows, found.ordered)),
        legend=items(comparison.legend(first, names, len(rows), comparison.ann_depth(rows))),
        charts=charts,
        charts_script=Markup(js_data.literal(charts)),
        leaks=leaks[:shown],
        leaks_total=len(leaks),
    )


def marked(text: str) -> Markup:
    """The comparison's Markdown of one line -> HTML; everything else is escaped."""
    parts, end = [], 0
    for match in _MARKED.finditer(text):
        parts.append(escape(text[end : match.start()]))
        if match["strong"] is not None:
            parts.append(Markup("<strong>{}</strong>").format(marked(match["strong"])))
        else:
            parts.append(
                Markup("<code>{}</code>").format(match["code"]) if match["code"] else escape(match["plain"])
            )
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def items(text: str) -> list[str]:
    """The lines of a paragraph or list."""
    return [line.removeprefix("- ") for line in text.split("\n") if line]
