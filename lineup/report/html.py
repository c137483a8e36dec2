"""The front page's HTML, by Jinja with autoescape: names and labels are shown as the characters they have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from lineup.comparison.comparison import Comparison
from lineup.report import js_data
from lineup.report.figures_table import figures_table
from lineup.report.first_screen import FirstScreen, signed
from lineup.summary import cost_sentences, match_view, sentences, tables
from lineup.summary.rich_text import Code, Data, Listing, Span, Strong, Text

PAGE = Path(__file__).parent / "page"
ASSETS = (
    "page.css",
    "figures.css",
    "page.js",
    "differences.js",
    "emphasis.js",
    "axes.js",
    "tradeoff.js",
    "curves.js",
    "sweeps.js",
    "latency.js",
    "tables.js",
    "queries.css",
    "pictures.js",
    "selection.js",
    "viewer.js",
    "slide.js",
    "queries.js",
    "against.js",
    "failures.js",
    "slices.js",
    "weaknesses.js",
    "confusions.js",
    "map.css",
    "map.js",
    "first_screen.js",
    "match.js",
    "suspects.js",
    "copies.js",
)
NO_ID = "0" * 16


class Findings(NamedTuple):
    """What the page says besides the verdict and the figures.

    learning_curves: what the last doubling of a row's labelled photos brought; precisions: what lower
    precisions cost; weaknesses: in which groups of queries the best row is weak, empty where no group says
    anything; on_training: what trained rows gained, and what was forgotten.
    """

    learning_curves: Sequence[Text] = ()
    precisions: Sequence[Text] = ()
    weaknesses: Sequence[Listing] = ()
    on_training: Sequence[tables.Section] = ()


def index(
    compared: Comparison,
    first: FirstScreen,
    charts: Mapping[str, Any],
    leaks: Sequence[Mapping[str, str]],
    leaks_shown: int,
    findings: Findings,
    descriptions: Mapping[str, str],
) -> str:
    """The front page.

    Args:
        compared: the rows, from best to worst.
        first: what the page says first.
        charts: what `charts.chart_data` returned.
        leaks: rows of leaks.csv, of which the first `leaks_shown` are shown.
        findings: what else the page says.
        descriptions: of each row, in one line.
    """
    measured_on = sentences.measured_on(compared)
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            title=sentences.title(compared),
            task=sentences.task(compared.task),
            verdict=sentences.verdict(compared),
            first=first,
            descriptions=descriptions,
            best=compared.best and compared.best.name,
            scored=bool(compared.metric_names),
            labelled=bool(compared.metric_names)
            and compared.task.labels > 0
            and not compared.task.edits_only,
            figures=figures_table(compared),
            how_to_read=[
                measured_on.introduction,
                *measured_on.items,
                *sentences.notes(compared),
                *cost_sentences.pareto_optimal(compared),
                *((line,) for line in sentences.legend(compared)),
            ],
            match_legend=match_view.legend(),
            match_sentences=match_view.sentences(compared) if match_view.is_shown(compared) else [],
            **findings._asdict(),
            charts=charts,
            charts_script=Markup(js_data.literal(charts)),
            leaks=leaks[:leaks_shown],
            num_leaks=len(leaks),
            no_id=NO_ID,
        )
    )


def with_id(page: str, data: str) -> tuple[str, str]:
    """The page with a digest of itself and of its data as its id, and that id."""
    page_id = hashlib.sha256(f"{page}\0{data}".encode()).hexdigest()[:16]
    return page.replace(f'data-page="{NO_ID}"', f'data-page="{page_id}"', 1), page_id


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
    environment.filters["signed"] = signed
    environment.filters["p_value"] = tables.p_value
    environment.filters["breakable"] = breakable
    for kind in (tables.RowName, tables.Estimate, tables.Standing, Data):
        environment.tests[kind.__name__] = lambda cell, kind=kind: isinstance(cell, kind)
    return environment


def rich(spans: Iterable[Span]) -> Markup:
    """A sentence of the comparison as HTML, in which everything but its marked parts is escaped."""
    return Markup("").join(map(_span, spans))


def breakable(name: str) -> Markup:
    """A row's name, in which a line may end after each `_`."""
    return Markup("_<wbr>").join(name.split("_"))


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
