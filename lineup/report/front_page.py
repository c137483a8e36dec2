"""The front page: all rows beside each other, and the data by which its scripts show the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lineup.comparison import comparison, sweeps
from lineup.comparison.comparison import Comparison
from lineup.comparison.sweeps import Sweep
from lineup.report import charts, first_screen, html, js_data, overview, slices_data
from lineup.report.page_sources import PageSources
from lineup.settings import row_descriptions
from lineup.settings.params import Params
from lineup.summary import learning_curves, precision_twins, slice_sentences


class FrontPage(NamedTuple):
    """The page's HTML, the script with its data, and the id by which `made.js` names it."""

    html: str
    data: str
    id: str


def build(sources: PageSources, params: Params) -> FrontPage:
    """Makes the page. Raises UserError if figures are of other queries than the test photos."""
    rows, cutoffs = sources.rows, params.score.cutoffs
    shown = comparison.shown_metrics(rows, cutoffs)
    compared = comparison.compare(rows, shown, sources.pairs, sources.running)
    data = _data(sources, compared, params)
    swept = sweeps.by_photos(sweeps.find(params), rows)
    made_of = {row: (settings.first, settings.second) for row, settings in params.refinements.items()}
    page = html.index(
        compared,
        first_screen.first_screen(compared, sources.images.data_digest, sources.figures_blob),
        charts.chart_data(
            compared, cutoffs, sources.curves, params.near_copies.rows, made_of, swept, params.map
        ),
        sources.leaks,
        overview.LEAKS_SHOWN,
        _findings(sources, compared, swept, params),
        row_descriptions.descriptions(params),
    )
    page, page_id = html.with_id(page, data)
    return FrontPage(page, data, page_id)


def _data(sources: PageSources, compared: Comparison, params: Params) -> str:
    """The script of what all rows share: the photos, the figures of queries, the pairs and the groups."""
    models = {row: params.model_of(row) for row in sources.rows}
    queries = overview.query_data(sources.queries, compared, sources.images, models)
    data = js_data.assignment("LINEUP", "collection", sources.images.to_json())
    data += js_data.assignment("LINEUP", "queries", queries)
    data += js_data.assignment("LINEUP", "pairs", first_screen.pairs_json(sources.pairs))
    if sources.attributes is not None:
        some_row = next(iter(sources.queries.values()))
        scored = ~np.isnan(some_row.map_at_r)
        described = slices_data.slices_data(sources.groups, sources.attributes, some_row.ids, scored)
        data += js_data.assignment("LINEUP", "slices", described)
    return data


def _findings(
    sources: PageSources, compared: Comparison, swept: Sequence[Sweep], params: Params
) -> html.Findings:
    rows, pairs, names = sources.rows, sources.pairs, compared.metric_names
    return html.Findings(
        [*learning_curves.sentences(swept, rows, pairs, names)],
        precision_twins.warnings(precision_twins.find(params, rows, pairs, names)),
        slice_sentences.weaknesses(compared, sources.groups),
        sources.on_training,
    )
