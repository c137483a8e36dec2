"""The front page's HTML, by Jinja with autoescape: names and labels are shown as the characters they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from lineup.evaluation import sentences, tables
from lineup.evaluation.comparison import Comparison
from lineup.evaluation.rich_text import Code, Data, Span, Strong
from lineup.report import js_data

PAGE = Path(__file__).parent / "page"
ASSETS = ("page.css", "page.js", "charts.js", "tables.js", "queries.js", "suspects.js", "copies.js")


def index(
    compared: Comparison, charts: Mapping[str, Any], leaks: Sequence[Mapping[str, str]], leaks_shown: int
) -> str:
    """The front page.

    Args:
        compared: the rows, from best to worst.
        charts: what `overview.chart_data` returned.
        leaks: rows of leaks.csv, of which the first `leaks_shown` are shown.
    """
    quality, cost = tables.quality(compared), tables.cost(compared)
    # The page joins the two tables; the second one repeats the row's name and its first metric.
    repeated = 1 + len(compared.metric_names[:1])
    measured_on = sentences.measured_on(compared)
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            title=sentences.title(compared),
            task=sentences.task(compared.task),
            verdict=sentences.verdict(compared),
            header=[*quality.header, *cost.header[repeated:]],
            against_the_best=tables.AGAINST_THE_BEST,
            num_quality_columns=len(quality.header),
            lines=[[*a, *b[repeated:]] for a, b in zip(quality.lines, cost.lines, strict=True)],
            how_to_read=[
                measured_on.introduction,
                *measured_on.items,
                *sentences.notes(compared),
                *((line,) for line in sentences.legend(compared)),
            ],
            charts=charts,
            charts_script=Markup(js_data.literal(charts)),
            leaks=leaks[:leaks_shown],
            num_leaks=len(leaks),
        )
    )


def _environment() -> jinja2.Environment:
    """In templates, `{{ text|rich }}` renders a sentence, and `cell is Estimate` tests the type of a cell."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["rich"] = rich
    environment.filters["p_value"] = tables.p_value
    for kind in (tables.RowName, tables.Estimate, tables.Standing, Data):
        environment.tests[kind.__name__] = lambda cell, kind=kind: isinstance(cell, kind)
    return environment


def rich(spans: Iterable[Span]) -> Markup:
    """A sentence of the comparison as HTML, in which everything but its marked parts is escaped."""
    return Markup("").join(map(_span, spans))


def _span(span: Span) -> Markup:
    match span:
        case Code(name):
            return Markup("<code>{}</code>").format(name)
        case Strong(spans):
            return Markup("<strong>{}</strong>").format(rich(spans))
        case Data(content):
            return escape(content)
        case _:
            return escape(span)
